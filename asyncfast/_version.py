# The one place of the version: the build reads this file as text, so it may
# hold nothing but the assignment.
__version__ = "0.1.0"
