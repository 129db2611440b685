"""The `facechain` command: thin commands over `node`, `gan` and `consensus`.

Owns options, output and exit codes. Refuses to import anything heavy before the command that needs it runs.
"""
