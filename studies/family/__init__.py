"""What the successors of LangBridge add, at equal English examples and at equal seconds.

__main__.py  the command                    data.py    its training and test files
arms.py      the ways, and the two pairs    costs.py   accuracy, added parameters, time a question
ways.py      a bridge with a route
report.py    what they found

Training, reading and their files are those of `studies.real`, of which this is another design.
"""
