"""Tensor parallelism: the devices of a replica share the matrices of its layers.

A matrix becomes T Keras variables, one on each device of the replica, so that optimizers, their
slots, averages, accumulation, loss scaling, clipping by the global norm and the reduction over
replicas work on them as on any variables. The layer's own variable stays and looks whole: its value
is a `PartsValue`, which gives the joined matrix, and takes one apart when it is assigned. So the
layer saves and loads plain matrices, and code that reads `layer.kernel` is right, if slow.

Inside of `on_rank(d)` that variable reads as part d. So the layer's own `call`, run once on each
device, computes with the parts:

    column    y = [x W_0, x W_1, ...]        each device has some outputs
    row       y = x_0 W_0 + x_1 W_1 + ...    each device has some inputs
    vocabulary                               each device has some rows of a table

A row layer after a column layer takes the parts as they are. A *block*, such as an attention layer,
is run as a whole on each device, from its first column layer to its last row layer: then heads and
hidden elements are divided, and only the results are added up.

All devices of a replica are in one graph. What is a collective in other systems is a copy and a sum
here: a tensor copied to T devices gets the sum of T gradients, by the tape's own rules. `crossing`
names the device of each copy, also of its gradient; in between `gradient_devices` keeps gradients
and updates where their inputs are.

Source: Shoeybi et al. 2019, "Megatron-LM", arXiv:1909.08053, section 3.
"""
