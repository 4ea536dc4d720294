"""Every small edit of our own text, as the hypotheses of what a port got wrong.

    texts.py      the text of a function, its syntax tree, and edited code put in its place
    functions.py  which functions a run goes through
    spots.py      one run in which every expression reports its value; the list of operators
    operators.py  what may be written instead of an expression, given its value (small.py, names.py,
                  moves.py, statements.py, repeats.py)
    spellings.py  other texts of our functions, to begin with as with ours
    helpers.py    functions that edited texts may call, and their words
    told.py       edited texts in our words
    loading.py    what may have happened to weights before the run
    classics.py   edits that were met in public, with their remedy and threads

An edit swaps the code of the function object itself: whoever imported, lifted, wrapped or cached
the function runs the new text.
"""
