"""BIG-Bench Hard: the subtasks of logical reasoning, and their Bengali translation."""
