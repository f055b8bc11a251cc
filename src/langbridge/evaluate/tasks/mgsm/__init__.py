"""MGSM: grade-school word problems in eleven languages."""
