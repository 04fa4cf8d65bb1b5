"""
What tasks and processes need to begin, end and let go properly. Knows no vLLM; anybody may use it.

`background` is a task that lives as long as a block, `shielding` lets a release end when its task is cancelled. A
`process` is a child of ours (`tether` ends it with us), a `keeper` starts it again, `lifetime` runs us until a signal.
`memory` has the system get back what is free.
"""
