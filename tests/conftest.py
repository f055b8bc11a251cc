"""For every test: no network, and shape annotations are checked at run time. And one tiny bridge on disk."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

SOURCES = Path(__file__).parent.parent / "src"
SHAPED = [
    ".".join(path.relative_to(SOURCES).with_suffix("").parts)
    for path in sorted(SOURCES.rglob("*.py"))
    if "from jaxtyping import" in path.read_text(encoding="utf-8")
]
"""Every module with shape annotations. Before any of them is imported, or they would stay unchecked."""
install_import_hook(SHAPED, "beartype.beartype")

# Set before any test imports transformers, which reads it once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def base_folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of an mT5 encoder and a Llama language model, random and tiny, with character tokenizers."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        MT5Config,
        MT5EncoderModel,
        PreTrainedTokenizerFast,
    )

    def tokenizer(single: str, **special: str) -> PreTrainedTokenizerFast:
        tokens = ["<pad>", "<s>", "</s>", "<unk>", *map(chr, range(32, 127)), *"২৭రెท"]
        raw = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, "<unk>"))
        raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        raw.decoder = decoders.Fuse()
        ids = [(token, tokens.index(token)) for token in ("<s>", "</s>")]
        raw.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
        return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", eos_token="</s>", **special)

    root = tmp_path_factory.mktemp("bases")
    torch.manual_seed(0)
    encoder = MT5EncoderModel(
        MT5Config(vocab_size=128, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, initializer_factor=2.0)
    )
    encoder.save_pretrained(root / "encoder")
    tokenizer("$A </s>", pad_token="<pad>").save_pretrained(root / "encoder")
    language_model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=128,
            hidden_size=48,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=256,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
            initializer_range=0.5,  # wide, so that answers depend on the prompt
        )
    )
    language_model.save_pretrained(root / "language_model")
    tokenizer("<s> $A", pad_token="<pad>", bos_token="<s>").save_pretrained(root / "language_model")
    return root / "encoder", root / "language_model"


@pytest.fixture(scope="session")
def bridge_folder(base_folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of an untrained bridge between the two."""
    import torch

    from langbridge.model import build_bridge

    torch.manual_seed(1)
    model, processor = build_bridge(*base_folders, template="Q: {prompt}\nA:")
    with torch.no_grad():  # an untrained connector says the same of every prompt; a louder one does not
        for parameter in model.connector.parameters():
            parameter.mul_(4)
    folder = tmp_path_factory.mktemp("bridge")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def marking_bridge_folder(base_folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a bridge whose encoder, as NLLB's, is told the language of its input by a mark."""
    import torch
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

    from langbridge.model import build_bridge

    torch.manual_seed(2)
    root = tmp_path_factory.mktemp("marking")
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *map(chr, range(32, 127)), "\u2581"]
    tokenizer = NllbTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}, merges=[])
    tokenizer.save_pretrained(root / "encoder")
    half = {"layers": 2, "attention_heads": 4, "ffn_dim": 48}
    config = M2M100Config(
        vocab_size=len(tokenizer),
        d_model=32,
        init_std=0.5,
        **{f"{side}_{k}": v for side in ("encoder", "decoder") for k, v in half.items()},
    )
    M2M100ForConditionalGeneration(config).save_pretrained(root / "encoder")
    model, processor = build_bridge(root / "encoder", base_folders[1])
    with torch.no_grad():  # louder, or it says the same of every prompt
        for parameter in model.connector.parameters():
            parameter.mul_(4)
    model.save_pretrained(root / "bridge")
    processor.save_pretrained(root / "bridge")
    return root / "bridge"


@pytest.fixture(scope="session")
def chat_bridge_folder(base_folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of an untrained bridge that speaks through its language model's chat template."""
    import shutil

    import torch
    from transformers import AutoTokenizer

    from langbridge.model import build_bridge

    root = tmp_path_factory.mktemp("chat")
    shutil.copytree(base_folders[1], root / "language_model")
    tokenizer = AutoTokenizer.from_pretrained(root / "language_model")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end>"]})
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}<end>{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    tokenizer.save_pretrained(root / "language_model")
    torch.manual_seed(1)
    model, processor = build_bridge(base_folders[0], root / "language_model", template="chat", system="Hi.")
    with torch.no_grad():  # as above
        for parameter in model.connector.parameters():
            parameter.mul_(4)
    model.save_pretrained(root / "bridge")
    processor.save_pretrained(root / "bridge")
    return root / "bridge"


@pytest.fixture(scope="session")
def seq2seq(base_folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder-decoder with the encoder's tokenizer."""
    import torch
    from transformers import AutoTokenizer, MT5Config, MT5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("seq2seq")
    torch.manual_seed(0)
    MT5ForConditionalGeneration(
        MT5Config(
            vocab_size=128, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4, decoder_start_token_id=0,
            pad_token_id=0, eos_token_id=2, initializer_factor=2.0, tie_word_embeddings=False,
        )
    ).save_pretrained(folder)  # fmt: skip
    AutoTokenizer.from_pretrained(base_folders[0]).save_pretrained(folder)
    return folder


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line in this process: exit code, stdout, stderr."""
    from langbridge.cli.main import run

    def command(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(left.value.code or 0), captured.out, captured.err

    return command
