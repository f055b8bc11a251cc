"""Connectors: from the encoder's hidden states to soft prompts in the language model's input space.

settings.py   what is known of a connector before it is built: its settings, how many soft prompts it makes, what it
              reads; the kinds of ours, and those that other packages register. Without torch.
base.py       what every connector answers to
linear.py, layerwise.py, mlp.py, resampler.py   the connectors themselves
"""
