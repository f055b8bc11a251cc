"""MMATH: problems of competitions, whose answers are numbers and formulas."""
