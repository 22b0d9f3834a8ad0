"""A switch in the chat: while it is on, the memory neither stores nor recalls."""


class Filter:
    """Does nothing itself: the memory looks whether it is switched on."""

    def __init__(self) -> None:
        self.toggle = True
