"""The study: the paper's claims in miniature. Each part declares its runs and says what their numbers mean.

sizes.py       how large a study is        runs.py        one run: train, ask, look
working.py     many runs, resumable        answers.py     accuracies with their standard errors
page.py        the report                  drawing.py     its figures
lift.py, examples.py, encoders.py, designs.py, baselines.py: the parts a to e
"""
