class ReadRounds:
    confirmed: dict[int, bool]
    number: int
    index: int
    is_running: bool
