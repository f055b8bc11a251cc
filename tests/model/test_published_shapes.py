"""Shapes of published models that the tiny ones of the other tests do not have."""

import pytest
import torch
import transformers as hf
from tiny import encoder_config, language_model_config, make_batch, make_bridge
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from conftest import language_model_tokenizer
from langbridge.errors import LangBridgeError
from langbridge.model import LangBridgeModel, LangBridgeProcessor, build_bridge
from langbridge.model.bases import base_fingerprint, check_fingerprint
from langbridge.model.encoders import build_encoder, config_length_limit
from langbridge.model.language_models import embedding_rms
from langbridge.model.tokenizers import choose_placeholder
from langbridge.serve.engine import Decoding
from langbridge.serve.load import bridge_engine

PROMPTS = ["Tom has 3 apples and buys 12 more.", "apples", "def f(x):"]


def byte_level(specials: dict[str, str], extra: tuple[str, ...] = ()) -> hf.PreTrainedTokenizerFast:
    """As GPT-2's, Qwen's and SmolLM's: bytes, no unknown token, no token before a text."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        PROMPTS, trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=raw, **specials)
    tokenizer.add_special_tokens({"additional_special_tokens": list(extra)})
    if begin := specials.get("bos_token"):
        ids = [(begin, tokenizer.bos_token_id)]
        raw = tokenizer.backend_tokenizer
        raw.post_processor = processors.TemplateProcessing(single=f"{begin} $A", special_tokens=ids)
    return tokenizer


def language_model_folder(folder, tokenizer, rows: int, tie: bool):
    config = language_model_config("llama")
    config.vocab_size, config.tie_word_embeddings = rows, tie
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    config.pad_token_id = None if tokenizer.pad_token_id is None else min(tokenizer.pad_token_id, rows - 1)
    torch.manual_seed(4)
    hf.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


LAYOUTS = {
    # tokenizer, rows of the table beside the tokenizer's tokens, output head tied
    "no begin, no unknown, pad is end, more rows": ({"eos_token": "<end>", "pad_token": "<end>"}, (), 24, True),
    "no pad, untied head": ({"eos_token": "<end>"}, ("<spare>",), 0, False),
    "begin is end, no rows to spare": ({"bos_token": "<end>", "eos_token": "<end>"}, (), 0, True),
    "a pad beyond the table": ({"bos_token": "<s>", "eos_token": "<end>", "pad_token": "[PAD]"}, (), -1, False),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_language_models_of_every_layout(bases, tmp_path, layout):
    specials, extra, more, tie = LAYOUTS[layout]
    tokenizer = byte_level(specials, extra)
    rows = len(tokenizer) + more
    folder = language_model_folder(tmp_path / "lm", tokenizer, rows, tie)
    bridge, processor = build_bridge(bases[0], folder)
    assert LangBridgeProcessor.from_bases(bases[0], folder).soft_prompt_token_id == bridge.config.soft_prompt_token_id

    placeholder = bridge.config.soft_prompt_token_id
    assert placeholder < rows
    assert placeholder not in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    text = "".join(map(chr, range(1, 0x250))) + "水तది 12"
    assert placeholder not in tokenizer(text)["input_ids"], "no text tokenises to it"

    batch = processor(PROMPTS, targets=["12 apples", "3", "x"])
    assert batch["input_ids"].max() < rows
    first = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    assert batch["input_ids"][0].tolist()[: len(first) + 1] == [*first, placeholder]
    assert (batch["labels"] == tokenizer.eos_token_id).sum() == 3, "each target's end is learned, and no padding is"
    assert bridge(**batch).loss.isfinite()

    engine, few = bridge_engine(bridge, processor), Decoding(5)
    together = [one.text for one in engine.answers(PROMPTS, few)]
    assert together == [engine.answers([prompt], few)[0].text for prompt in PROMPTS]

    bridge.save_pretrained(tmp_path / "bridge")
    processor.save_pretrained(tmp_path / "bridge")
    loaded = LangBridgeModel.from_pretrained(tmp_path / "bridge")
    again = LangBridgeProcessor.from_pretrained(tmp_path / "bridge")
    assert [one.text for one in bridge_engine(loaded, again).answers(PROMPTS, few)] == together


def test_a_row_that_no_token_uses_is_the_placeholder():
    """Published tables are rounded up: 151,936 rows for 151,665 tokens."""
    tokenizer = language_model_tokenizer()
    assert choose_placeholder(None, 151_936, tokenizer) == 151_935
    assert choose_placeholder(None, len(tokenizer), tokenizer) == tokenizer.unk_token_id


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        (hf.BertConfig(max_position_embeddings=512), 512),
        (hf.XLMRobertaConfig(max_position_embeddings=514), 512),
        (hf.RobertaConfig(max_position_embeddings=514), 512),
        (hf.MT5Config(), None),
        (hf.ModernBertConfig(), None),
        (hf.M2M100Config(), None),
    ],
    ids=lambda value: getattr(value, "model_type", value),
)
def test_limits_of_positions(config, limit):
    assert config_length_limit(config) == limit


def test_an_encoder_reads_up_to_its_last_position():
    for kind, rows in (("bert", 40), ("xlm-roberta", 42)):
        small = encoder_config("xlm-roberta").to_dict() | {"max_position_embeddings": rows, "pad_token_id": 1}
        small.pop("model_type")
        bridge = LangBridgeModel.from_bases(
            build_encoder(hf.AutoConfig.for_model(kind, **small)).eval(),
            make_bridge().language_model,
            soft_prompt_token_id=95,
        )
        assert bridge.encode(torch.full((1, 40), 7)).shape == (1, 40, 32)
        with pytest.raises(LangBridgeError, match="for 40"):
            bridge.encode(torch.full((1, 41), 7))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_encoders_saved_in_half_precision(bases, tmp_path, dtype):
    """A bridge over them is loaded as they are, or in single precision, and says the same up to the half's."""
    hf.BertModel(
        hf.BertConfig(vocab_size=128, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48),
        add_pooling_layer=False,
    ).to(dtype).save_pretrained(tmp_path / "encoder")
    hf.AutoTokenizer.from_pretrained(bases[0]).save_pretrained(tmp_path / "encoder")
    torch.manual_seed(0)
    bridge, processor = build_bridge(tmp_path / "encoder", bases[1])
    assert bridge.encoder.dtype == dtype
    assert bridge.connector.end.dtype == torch.float32
    bridge.save_pretrained(tmp_path / "bridge")
    batch = processor(PROMPTS)
    source = {name: batch[name] for name in ("encoder_input_ids", "encoder_attention_mask")}
    for wanted in (torch.float32, "float32"):
        single = LangBridgeModel.from_pretrained(tmp_path / "bridge", dtype=wanted)
        assert single.encoder.dtype == torch.float32
        (soft, mask), (half, _) = single.soft_prompts(**source), bridge.soft_prompts(**source)
        # bfloat16 keeps 8 bits, and the states are of size one
        torch.testing.assert_close(soft[mask.bool()], half[mask.bool()], rtol=0.05, atol=0.05)


def test_a_trained_encoder_is_loaded_in_the_precision_that_is_asked_for(bases, tmp_path):
    bridge, _ = build_bridge(*bases, freeze_encoder=False)
    bridge.save_pretrained(tmp_path)
    for wanted, got in (("bfloat16", torch.bfloat16), (torch.bfloat16, torch.bfloat16), ("auto", torch.float32)):
        assert LangBridgeModel.from_pretrained(tmp_path, dtype=wanted).encoder.dtype == got


def test_an_encoder_that_overflows_is_named():
    bridge = make_bridge()
    with torch.no_grad():
        bridge.encoder.get_input_embeddings().weight[50] = float("inf")
    batch = make_batch(bridge)
    batch["encoder_input_ids"][batch["encoder_attention_mask"] == 0] = 50  # padding may be anything
    bridge.generate(**batch, max_new_tokens=2)
    batch["encoder_input_ids"][1, 0] = 50
    with pytest.raises(LangBridgeError, match=r"encoder: its states in torch.float32 are not finite"):
        bridge.generate(**batch, max_new_tokens=2)


def test_tables_of_more_values_than_single_precision_counts():
    """250,037 rows of 96: 24 million values, where float32 knows whole numbers up to 16.8 million. One value each, so
    that it takes no memory."""
    config = language_model_config("llama")
    config.vocab_size = 250_037
    with torch.device("meta"):
        model = hf.LlamaForCausalLM(config)
    assert embedding_rms(model) == 1.0, "laid out without weights"

    def table(value: float) -> torch.nn.Parameter:
        return torch.nn.Parameter(torch.full((1, 1), value).expand(250_037, 96), requires_grad=False)

    model = hf.LlamaForCausalLM(language_model_config("llama"))
    model.model.embed_tokens = torch.nn.Embedding(250_037, 96, _weight=torch.full((1, 1), 0.5).expand(250_037, 96))
    assert embedding_rms(model) == 0.5
    model.lm_head.weight = table(0.5)
    found = base_fingerprint(model)
    check_fingerprint("language_model", found, model, "this", "this")
    assert found["samples"]["lm_head.weight"]["shape"] == [250_037, 96]
    model.lm_head.weight = table(0.25)
    with pytest.raises(LangBridgeError, match="lm_head"):
        check_fingerprint("language_model", found, model, "another", "this")
