"""Seven-class facial expression classifier: data, network, training, evaluation and what it may say.

Extra: producer. Owns everything between a labelled set of faces and a table of probabilities. Refuses to
score faces that nobody labelled: those get a distribution, never an accuracy.
"""
