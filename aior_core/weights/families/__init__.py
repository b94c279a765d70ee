"""What is particular to the weights of each family of models; `models.family` says what differs in use."""
