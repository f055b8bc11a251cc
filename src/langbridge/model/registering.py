"""Make the auto classes of transformers know a bridge. Importing this module does nothing; `register()` is
called when the model or the processor is imported."""

from transformers import AutoConfig, AutoModelForCausalLM, AutoProcessor

from langbridge.model.configuration import LangBridgeConfig


def register() -> None:
    """Register config, model and processor. Repeating it is harmless."""
    from langbridge.model.modeling import LangBridgeModel
    from langbridge.model.processing import LangBridgeProcessor

    AutoConfig.register(LangBridgeConfig.model_type, LangBridgeConfig, exist_ok=True)
    AutoModelForCausalLM.register(LangBridgeConfig, LangBridgeModel, exist_ok=True)
    AutoProcessor.register(LangBridgeConfig, LangBridgeProcessor, exist_ok=True)
