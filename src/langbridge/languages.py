"""Codes and names of languages, and which of them count as low-resource for an English-centric language model.

The measure is a language's share of Llama 2's pre-training data (Touvron et al. 2023, arXiv 2307.09288,
Table 10): strictly under 0.1 percent is low, so Japanese with 0.10 is high, as in the published tables.
"""

import re
from collections.abc import Sequence

from langbridge.errors import LangBridgeError

LLAMA2_PERCENT = {
    "en": 89.70, "de": 0.17, "fr": 0.16, "sv": 0.15, "es": 0.13, "ru": 0.13, "zh": 0.13, "nl": 0.12, "it": 0.11,
    "ja": 0.10, "pl": 0.09, "pt": 0.09, "vi": 0.08, "uk": 0.07, "ko": 0.06, "ca": 0.04, "sr": 0.04, "cs": 0.03,
    "fi": 0.03, "hu": 0.03, "id": 0.03, "no": 0.03, "ro": 0.03, "bg": 0.02, "da": 0.02, "hr": 0.01, "sl": 0.01,
}  # fmt: skip
"""Percent of the pre-training data by language; a language that is not listed has less than 0.005."""

LOW_BELOW_PERCENT = 0.1

FLORES = {
    "af": "afr_Latn", "ak": "aka_Latn", "am": "amh_Ethi", "ar": "arb_Arab", "as": "asm_Beng", "ay": "ayr_Latn",
    "az": "azj_Latn", "ba": "bak_Cyrl", "be": "bel_Cyrl", "bg": "bul_Cyrl", "bm": "bam_Latn", "bn": "ben_Beng",
    "bo": "bod_Tibt", "bs": "bos_Latn", "ca": "cat_Latn", "cs": "ces_Latn", "cy": "cym_Latn", "da": "dan_Latn",
    "de": "deu_Latn", "dz": "dzo_Tibt", "ee": "ewe_Latn", "el": "ell_Grek", "en": "eng_Latn", "eo": "epo_Latn",
    "es": "spa_Latn", "et": "est_Latn", "eu": "eus_Latn", "fa": "pes_Arab", "ff": "fuv_Latn", "fi": "fin_Latn",
    "fj": "fij_Latn", "fo": "fao_Latn", "fr": "fra_Latn", "ga": "gle_Latn", "gd": "gla_Latn", "gl": "glg_Latn",
    "gn": "grn_Latn", "gu": "guj_Gujr", "ha": "hau_Latn", "he": "heb_Hebr", "hi": "hin_Deva", "hr": "hrv_Latn",
    "ht": "hat_Latn", "hu": "hun_Latn", "hy": "hye_Armn", "id": "ind_Latn", "ig": "ibo_Latn", "is": "isl_Latn",
    "it": "ita_Latn", "ja": "jpn_Jpan", "jv": "jav_Latn", "ka": "kat_Geor", "kg": "kon_Latn", "ki": "kik_Latn",
    "kk": "kaz_Cyrl", "km": "khm_Khmr", "kn": "kan_Knda", "ko": "kor_Hang", "kr": "knc_Latn", "ks": "kas_Arab",
    "ku": "kmr_Latn", "ky": "kir_Cyrl", "lb": "ltz_Latn", "lg": "lug_Latn", "li": "lim_Latn", "ln": "lin_Latn",
    "lo": "lao_Laoo", "lt": "lit_Latn", "lv": "lvs_Latn", "mg": "plt_Latn", "mi": "mri_Latn", "mk": "mkd_Cyrl",
    "ml": "mal_Mlym", "mn": "khk_Cyrl", "mr": "mar_Deva", "ms": "zsm_Latn", "mt": "mlt_Latn", "my": "mya_Mymr",
    "nb": "nob_Latn", "ne": "npi_Deva", "nl": "nld_Latn", "nn": "nno_Latn", "no": "nob_Latn", "ny": "nya_Latn",
    "oc": "oci_Latn", "om": "gaz_Latn", "or": "ory_Orya", "pa": "pan_Guru", "pl": "pol_Latn", "ps": "pbt_Arab",
    "pt": "por_Latn", "qu": "quy_Latn", "rn": "run_Latn", "ro": "ron_Latn", "ru": "rus_Cyrl", "rw": "kin_Latn",
    "sa": "san_Deva", "sc": "srd_Latn", "sd": "snd_Arab", "sg": "sag_Latn", "si": "sin_Sinh", "sk": "slk_Latn",
    "sl": "slv_Latn", "sm": "smo_Latn", "sn": "sna_Latn", "so": "som_Latn", "sq": "als_Latn", "sr": "srp_Cyrl",
    "ss": "ssw_Latn", "st": "sot_Latn", "su": "sun_Latn", "sv": "swe_Latn", "sw": "swh_Latn", "ta": "tam_Taml",
    "te": "tel_Telu", "tg": "tgk_Cyrl", "th": "tha_Thai", "ti": "tir_Ethi", "tk": "tuk_Latn", "tl": "tgl_Latn",
    "tn": "tsn_Latn", "tr": "tur_Latn", "ts": "tso_Latn", "tt": "tat_Cyrl", "tw": "twi_Latn", "ug": "uig_Arab",
    "uk": "ukr_Cyrl", "ur": "urd_Arab", "uz": "uzn_Latn", "vi": "vie_Latn", "wo": "wol_Latn", "xh": "xho_Latn",
    "yi": "ydd_Hebr", "yo": "yor_Latn", "zh": "zho_Hans", "zu": "zul_Latn",
}  # fmt: skip
"""FLORES-200's code (NLLB Team 2022, arXiv 2207.04672), with the commonest script, of each language there that has two
letters in ISO 639-1. NLLB's tokenizers mark languages by these codes."""

_THREE_LETTERS = {
    **{code.split("_")[0]: letters for letters, code in FLORES.items()},
    # Macrolanguages, of which FLORES names a member, and other codes that are in use.
    "ara": "ar", "aym": "ay", "aze": "az", "cmn": "zh", "fas": "fa", "fil": "tl", "ful": "ff", "kau": "kr", "kur": "ku",
    "lav": "lv", "mlg": "mg", "mon": "mn", "msa": "ms", "nep": "ne", "ori": "or", "orm": "om", "pus": "ps", "que": "qu",
    "sqi": "sq", "swa": "sw", "uzb": "uz", "yid": "yi",
    # Llama 2's table has one Norwegian.
    "nob": "no", "nno": "no", "nor": "no", "nb": "no", "nn": "no",
}  # fmt: skip
"""ISO 639-3 of the languages above; every other three-letter code has no two letters."""


_ENGLISH_NAMES = """
aa Afar; ab Abkhaz; ae Avestan; af Afrikaans; ak Akan; am Amharic; an Aragonese; ar Arabic; as Assamese; av Avar;
ay Aymara; az Azerbaijani; ba Bashkir; be Belarusian; bg Bulgarian; bi Bislama; bm Bambara; bn Bengali; bo Tibetan;
br Breton; bs Bosnian; ca Catalan; ce Chechen; ch Chamorro; co Corsican; cr Cree; cs Czech; cv Chuvash; cy Welsh;
da Danish; de German; dv Divehi; dz Dzongkha; ee Ewe; el Greek; en English; eo Esperanto; es Spanish; et Estonian;
eu Basque; fa Persian; ff Fulah; fi Finnish; fj Fijian; fo Faroese; fr French; fy Frisian; ga Irish; gd Gaelic;
gl Galician; gn Guarani; gu Gujarati; gv Manx; ha Hausa; he Hebrew; hi Hindi; ho Hiri Motu; hr Croatian; ht Haitian;
hu Hungarian; hy Armenian; hz Herero; id Indonesian; ig Igbo; ii Yi; ik Inupiaq; io Ido; is Icelandic; it Italian;
iu Inuktitut; ja Japanese; jv Javanese; ka Georgian; kg Kongo; ki Kikuyu; kj Kwanyama; kk Kazakh; kl Greenlandic;
km Khmer; kn Kannada; ko Korean; kr Kanuri; ks Kashmiri; ku Kurdish; kv Komi; kw Cornish; ky Kyrgyz; la Latin;
lb Luxembourgish; lg Ganda; li Limburgish; ln Lingala; lo Lao; lt Lithuanian; lu Luba-Katanga; lv Latvian; mg Malagasy;
mh Marshallese; mi Maori; mk Macedonian; ml Malayalam; mn Mongolian; mr Marathi; ms Malay; mt Maltese; my Burmese;
na Nauru; nd North Ndebele; ne Nepali; ng Ndonga; nl Dutch; no Norwegian; nr South Ndebele; nv Navajo; ny Chichewa;
oc Occitan; oj Ojibwe; om Oromo; or Odia; os Ossetian; pa Punjabi; pi Pali; pl Polish; ps Pashto; pt Portuguese;
qu Quechua; rm Romansh; rn Rundi; ro Romanian; ru Russian; rw Kinyarwanda; sa Sanskrit; sc Sardinian; sd Sindhi;
se Northern Sami; sg Sango; si Sinhala; sk Slovak; sl Slovenian; sm Samoan; sn Shona; so Somali; sq Albanian;
sr Serbian; ss Swati; st Sotho; su Sundanese; sv Swedish; sw Swahili; ta Tamil; te Telugu; tg Tajik; th Thai;
ti Tigrinya; tk Turkmen; tl Tagalog; tn Tswana; to Tongan; tr Turkish; ts Tsonga; tt Tatar; tw Twi; ty Tahitian;
ug Uyghur; uk Ukrainian; ur Urdu; uz Uzbek; ve Venda; vi Vietnamese; wa Walloon; wo Wolof; xh Xhosa; yi Yiddish;
yo Yoruba; za Zhuang; zh Chinese; zu Zulu; ast Asturian; bem Bemba; bho Bhojpuri; ceb Cebuano; fon Fon; haw Hawaiian;
ilo Ilocano; kab Kabyle; luo Luo; mai Maithili; mos Mossi; nqo N'Ko; nso Northern Sotho; pcm Nigerian Pidgin;
tpi Tok Pisin; tum Tumbuka; vai Vai; war Waray; yue Cantonese
"""
"""The English name of each language with two letters in ISO 639-1, and of some with three only."""

_ALSO_CALLED = {
    "avaric": "av", "bangla": "bn", "myanmar": "my", "farsi": "fa", "filipino": "tl", "fula": "ff",
    "haitian creole": "ht", "kirghiz": "ky", "luganda": "lg", "mandarin": "zh", "moldovan": "ro", "nyanja": "ny",
    "oriya": "or", "panjabi": "pa", "sepedi": "nso", "sesotho": "st", "setswana": "tn", "sinhalese": "si",
    "slovene": "sl", "isixhosa": "xh", "isizulu": "zu", "kiswahili": "sw",
}  # fmt: skip

_NAMES = dict(entry.split(maxsplit=1) for entry in _ENGLISH_NAMES.replace("\n", " ").strip().split("; "))
_BY_NAME = {**{name.lower(): code for code, name in _NAMES.items()}, **_ALSO_CALLED}

_CODE = re.compile(r"[a-z]{2,3}([-_][a-z0-9]+)*", re.IGNORECASE)


def two_letter(language: str) -> str:
    """The language of a code without script or region, with two letters where there are such."""
    code = language.replace("_", "-").split("-")[0].lower()
    return _THREE_LETTERS.get(code, code)


def english_name(language: str) -> str | None:
    """`Swahili` for `sw`, `swa` or `swh_Latn`; None for one that this table lacks."""
    return _NAMES.get(two_letter(language))


def language_code(text: str) -> str | None:
    """A language as files and commands name it, as a code: `sw`, `swa` and `swh_Latn` as they are, `Swahili` as `sw`.

    None where it is neither a code nor a name that this table has.
    """
    if _CODE.fullmatch(text) and text[:3].islower():
        return text
    named = _BY_NAME.get(re.sub(r"[\W_]+", " ", text).strip().lower())
    return named or (text if _CODE.fullmatch(text) else None)


def is_same_language(one: str, other: str) -> bool:
    """Whether two codes can mean one language: `sw` and `swh_Latn` do, `zho_Hans` and `zho_Hant` do not."""
    if two_letter(one) != two_letter(other):
        return False
    first, second = ([part.lower() for part in re.split("[-_]", code)[1:]] for code in (one, other))
    return not first or not second or first == second


def chosen_languages(languages: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    """Those languages that are wanted, by code or English name: `sw` and `Swahili` want `swh_Latn`.

    wanted: None for all.
    """
    if wanted is None:
        return list(languages)
    codes = [code for text in wanted if (code := language_code(text)) is not None]
    return [own for own in languages if any(is_same_language(own, code) for code in codes)]


def group_of(language: str, where: str = "language") -> str:
    """`"high"` or `"low"` for a language code such as `sw`, `zh-Hant` or `zho_Hant`; only the first part counts.

    Raises `LangBridgeError`, which begins with `where`, for what is no code.
    """
    if not _CODE.fullmatch(language):
        raise LangBridgeError(f"{where}: expected a code such as 'sw' or 'zh-Hant', got {language!r}")
    return "low" if LLAMA2_PERCENT.get(two_letter(language), 0.0) < LOW_BELOW_PERCENT else "high"


_MEASURED = ("en", "es", "fr", "de", "ru", "zh", "ja", "th", "sw", "bn", "te", "ko")

LANGUAGE_GROUPS = {group: tuple(code for code in _MEASURED if group_of(code) == group) for group in ("high", "low")}
"""The 11 languages of MGSM and Korean, by group, in MGSM's order."""
