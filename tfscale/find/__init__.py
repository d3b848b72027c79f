"""Finds the learning rate and the batch size to train a model with.

found = tfscale.find_learning_rate(model, (images, labels), batch_size=64)
print(found)
"""
