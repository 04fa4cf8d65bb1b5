"""
HTTP as an exchange needs it: its client (`downstream`), the head of an answer (`headers`), errors as answers
(`answers`), and the sockets that it all comes in by (`listeners`).
"""
