"""Ekiden's figures, measured beside the design that it takes the place of, in one run on one machine.

`python -m bench` starts everything, runs each scenario in alternating rounds and prints a table. `scenarios.py` says
what is asked, `subjects.py` who is asked, `client.py` how it is measured, `peers/` what the others are made of.
"""
