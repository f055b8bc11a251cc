"""Model and processor, known to the auto classes of transformers: the module that both are imported from."""

from transformers import AutoConfig, AutoModelForCausalLM, AutoProcessor

from langbridge.model.configuration import LangBridgeConfig
from langbridge.model.modeling import LangBridgeModel
from langbridge.model.processing import LangBridgeProcessor

__all__ = ["LangBridgeModel", "LangBridgeProcessor"]

AutoConfig.register(LangBridgeConfig.model_type, LangBridgeConfig, exist_ok=True)
AutoModelForCausalLM.register(LangBridgeConfig, LangBridgeModel, exist_ok=True)
AutoProcessor.register(LangBridgeConfig, LangBridgeProcessor, exist_ok=True)
