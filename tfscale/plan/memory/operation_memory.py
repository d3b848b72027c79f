"""How operations of TensorFlow use memory, by their type."""

from __future__ import annotations

from tfscale.plan.memory.liveness import MAY_REUSE, SHARES

_SHARING = """
Identity IdentityN Reshape ExpandDims Squeeze StopGradient PreventGradient Snapshot CheckNumerics
EnsureShape While StatelessWhile
"""
_REUSING = """
Abs Add AddN AddV2 BiasAdd Cast Cos DivNoNan Elu EluGrad Erf Erfc Exp Expm1 LeakyRelu LeakyReluGrad
Log Log1p LogSoftmax Maximum Minimum Mul MulNoNan Neg Pow RealDiv Reciprocal Relu Relu6 Relu6Grad
ReluGrad Round Rsqrt RsqrtGrad SelectV2 Selu SeluGrad Sigmoid SigmoidGrad Sign Sin Softmax Softplus
SoftplusGrad Softsign Sqrt SqrtGrad Square SquaredDifference Sub Tanh TanhGrad Xdivy Xlogy ZerosLike
"""
_CALLING = """
Case If PartitionedCall StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile While
"""
MEMORY = {
    **dict.fromkeys(_SHARING.split(), SHARES),
    **dict.fromkeys(_REUSING.split(), MAY_REUSE),
}
CALLERS = frozenset(_CALLING.split())
SHARERS = frozenset(_SHARING.split())
IN_MEMORY_ANYWAY = frozenset(("Const", "Placeholder", "ReadVariableOp", "VarHandleOp"))
CONDITIONS = frozenset(("Case", "If", "StatelessCase", "StatelessIf"))
LOOPS = frozenset(("While", "StatelessWhile"))
