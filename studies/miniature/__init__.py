"""The paper's claims in miniature. Each part declares its runs and says what their numbers mean.

__main__.py  the command               models.py    encoders and the translator, built once
sizes.py     how large a study is      data.py      its data, as files
runs.py      one run: train, ask       working.py   many runs, resumable
answers.py   scores with their errors  page.py, drawing.py, report.py: the report
altered.py   other soft prompts        mixture.py   a connector of the study's own
reading.py   numbers and verbs read    sooner.py    examples to a goal
ablation.py  parents of the study's own, and part f
lift.py, examples.py, encoders.py, designs.py, baselines.py: the parts a to e
"""

import os

# Read once, when the first module below imports transformers: dozens of runs would each tell of their loading.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
