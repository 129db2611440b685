"""What an operator needs when something goes wrong with a node's store: check, count, copy, mend, shrink."""
