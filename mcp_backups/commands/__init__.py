"""What a person runs: one module or folder for each command, or for those of one subject.

They share `usage`, the words of their help, and `terminal`, what is printed where.
"""
