"""Tokenizers of instruction-tuned models in small: the special tokens and chat templates of four families, over single
characters."""

from dataclasses import dataclass

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

_CHATML = """{% for m in messages %}<|im_start|>{{ m['role'] }}
{{ m['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

QWEN = (
    """{% if messages[0]['role'] != 'system' %}<|im_start|>system
You help.<|im_end|>
{% endif %}"""
    + _CHATML
)
SMOLLM = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are small.<|im_end|>\n{% endif %}" + _CHATML
LLAMA = """{% for m in messages %}{% if loop.first %}{{ bos_token }}{% endif %}<|start_header_id|>{{ m['role'] \
}}<|end_header_id|>

{{ m['content'] | trim }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant\
<|end_header_id|>

{% endif %}"""
GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}\
{% endif %}{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}
{{ m['content'] | trim }}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""


@dataclass(frozen=True)
class Family:
    template: str
    specials: tuple[str, ...]
    """Beginning with the tokenizer's own begin token and its EOS."""
    writes_begin: bool
    """Whether the tokenizer puts its begin token before a text."""
    before: str
    """What the template writes before the user's words where nothing is said of a system message, and after them."""
    after: str
    end: str


FAMILIES = {
    "qwen": Family(
        QWEN, ("", "<|endoftext|>", "<|im_start|>", "<|im_end|>"), False,
        "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>",
    ),
    "smollm": Family(
        SMOLLM, ("<|im_start|>", "<|im_end|>"), False,
        "<|im_start|>system\nYou are small.<|im_end|>\n<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>",
    ),
    "llama": Family(
        LLAMA, ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), True,
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>",
    ),
    "gemma": Family(
        GEMMA, ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), True,
        "<bos><start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n", "<end_of_turn>",
    ),
}  # fmt: skip


def chat_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Its last token stands in no text, and so marks soft prompts."""
    family = FAMILIES[name]
    begin, eos, *others = family.specials
    tokens = ["<pad>", "<unk>", *filter(None, family.specials), "\n", *map(chr, range(32, 127)), "<reserved>"]
    raw = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, "<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    raw.decoder = decoders.Fuse()
    if family.writes_begin:
        raw.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, tokens.index(begin))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token=eos, **({"bos_token": begin} if begin else {})
    )
    # What ends a turn is an added token; that it is special, not every tokenizer says.
    tokenizer.add_tokens([token for token in others if token == family.end])
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [*(token for token in others if token != family.end), "<reserved>"]}
    )
    tokenizer.chat_template = family.template
    return tokenizer
