"""
The command `tollway`: one file a command, loaded when it is run.

A command's module is named like the command, and so is the click command in it. Results go to stdout; what a person
should know beside them goes to stderr, so that a command's output can be piped. A new one is its file, with an example
in its help, and its name in `COMMANDS` of `proxy/cli/main.py`.
"""
