"""`python -m langbridge.cli`, for where the console script is not on the path."""

from langbridge.cli.main import run

run()
