"""Fixes of Keras's trainer, optimizers, layers and metrics under the strategies of this package.

Importing it changes nothing; the factories of `strategies` call `support`. Each room imports only
from those before it:

    patching       how a symbol is replaced, fingerprints, which strategies are meant, step clock
    input          what `fit` reads: epochs, executions, replica batches, where a run resumes
    context        the step of one replica, and what it may ask of the others
    model          the model: its build, its parts, its scope, what is refused
    metrics        how metrics of replicas combine, and the logs
    placement      the devices of a replica, and on which of them a variable is
    sharding       slots, gradients and parameters of which each replica has a part
    tensor         matrices of layers, divided over the devices of a replica
    gradients      from the tape to updated weights: reduce, check, clip, apply
    state          variables, BatchNormalization, random draws, what layers assign
    step           the functions that train, test and predict on all replicas
    pipeline       models in stages on the devices of a replica
    local_sgd      replicas that step locally and are averaged
    asynchronous   parameter servers: each worker at its own pace
    workers        several workers: collective calls, files written by the chief
    callback_order  the order in which callbacks are called
    dispatch       which of these runs a model
    patches        every replaced symbol, in the order of a step
    defects        what each patch is for
    installation   `support`
"""

from strategies.keras_support.installation import support

__all__ = ["support"]
