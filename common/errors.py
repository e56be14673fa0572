"""Owns the one exception that stands for a user's mistake: it reaches the terminal as one message, never as a traceback."""


class UserError(ValueError):
    """Tell a user what is wrong: the recipe key or file, the value met, and the remedy. Entry points exit with code 2."""
