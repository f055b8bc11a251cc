"""What runs inside the sandbox: the standard library and nothing of ours but this folder.

Two processes share the work, so that a program cannot vouch for itself. The *checker* holds the benchmark's tests and a
secret token, and is closed to inspection. The *candidate* holds the model's program and only ever answers calls with
values. A pass is the checker's word, signed with the token; whatever a program prints, however it exits, it can at most
fail.
"""
