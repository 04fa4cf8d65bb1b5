"""The reasons for which a command ends that are nobody's bug."""


class Fatal(Exception):
    """
    A condition that only the operator can change: `tollway` prints its message and exits 1, without a traceback.

    Kept apart from everything heavy, so that the command line can know it before it has loaded anything.
    """
