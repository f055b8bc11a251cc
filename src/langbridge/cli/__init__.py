"""The one door: a command line over the other rooms. `main.py` lists the commands."""
