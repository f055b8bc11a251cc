"""What must travel with the weights of a bridge, and nothing about a run.

Widths are not here: they follow from the two sub-configs. The language model's sub-config is called `text_config`
because that is the name under which `generate()` and the caches look for it.
"""

import copy
from typing import Any, ClassVar, no_type_check

from transformers import AutoConfig, PreTrainedConfig

from langbridge.errors import LangBridgeError
from langbridge.model.connectors.settings import ConnectorSettings

IGNORE = -100
"""The label that is not learned, everywhere in the project."""


# transformers wraps a config's __init__ to take more keywords than it has fields; a run-time checker would
# refuse them
@no_type_check
class LangBridgeConfig(PreTrainedConfig):
    """Configuration of a bridge.

    encoder_config, text_config: the configs of the encoder and of the language model (or their dicts).
    connector: a kind (`linear`), or a mapping with a kind and its settings; read into `ConnectorSettings`.
    soft_prompt_token_id: the id inside the language model's vocabulary that marks a soft prompt's place in
        `input_ids`.
    freeze_encoder: no gradient and no dropout in the encoder.
    encoder_trained: the encoder differs from its base, because it was ever trained; checkpoints then hold it.
    train_new_rows: train the embedding rows of `new_token_ids` while the rest of the encoder is frozen.
    new_token_ids: ids of tokens that were added to the encoder's tokenizer (whitespace); their rows live in
        the bridge's own checkpoint.
    bare_token_ids: ids of the encoder's tokens that stand for no character, which get no soft prompt; empty where every
        token gets one.
    encoder_base, language_model_base: where the bases come from: `id` (hub id or path), `relative` (path from
        the checkpoint's folder), `revision`, `fingerprint`; in memory also `found`, the folder inside the checkpoint.
    """

    model_type = "langbridge"
    sub_configs: ClassVar[dict[str, Any]] = {"encoder_config": AutoConfig, "text_config": AutoConfig}

    encoder_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    connector: Any = "linear"
    soft_prompt_token_id: int | None = None
    freeze_encoder: bool = True
    train_new_rows: bool = False
    encoder_trained: bool = False
    new_token_ids: list[int] | None = None
    bare_token_ids: list[int] | None = None
    encoder_base: dict | None = None
    language_model_base: dict | None = None
    tie_word_embeddings: bool = False  # the language model ties its own

    def __post_init__(self, **kwargs: Any) -> None:
        self.encoder_config = _as_config(self.encoder_config, "encoder_config")
        self.text_config = _as_config(self.text_config, "text_config")
        self.new_token_ids = list(self.new_token_ids or [])
        self.bare_token_ids = list(self.bare_token_ids or [])
        self.connector = ConnectorSettings.read(self.connector, num_latents=kwargs.pop("num_latents", None))
        super().__post_init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "connector": self.connector.to_dict()}


def _as_config(config: Any, where: str) -> PreTrainedConfig | None:
    """A sub-config from its dict (as read from JSON), a config object, or None.

    Objects are copied: a composite config writes its own settings (the attention's, None by default) into its
    sub-configs, and a model that is already built reads its config at every pass.
    """
    if not isinstance(config, dict):
        return copy.deepcopy(config)
    if "model_type" not in config:
        raise LangBridgeError(f"{where}: got a dict without 'model_type'; expected a model's config (its config.json)")
    return AutoConfig.for_model(**config)
