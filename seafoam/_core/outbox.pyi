from seafoam._core.message import HardState

class Outbox:
    def __init__(self, written: HardState) -> None: ...
