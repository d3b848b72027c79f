"""Where the installed Keras or TensorFlow defines a symbol.

A target names a symbol by its public owner if it has one: `keras:Model.fit`, not the class and the
module in which Keras happens to define `fit`. These were renamed and moved between releases (Keras
3.16: `backend.tensorflow.core` to `backend.tensorflow.ops.core`, `Trainer` to `BaseTrainer`); the
public names were not. The class that defines the symbol is the first one in the method resolution
order of the public class.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

Owner = Any
"""The module or class whose namespace has the symbol."""


def named_owner(target: str) -> tuple[Owner, str]:
    """Returns the module or class that a target names, and the name of the symbol in it.

    Args:
        target: `"package.module:Class.attribute"` or `"package.module:name"`.

    Raises:
        LookupError: If the installed release has no such module or class.

    Example:
        >>> named_owner("keras:Model.fit")[1]
        'fit'
    """
    module_name, _, path = target.partition(":")
    *outer, name = path.split(".")
    try:
        owner: Owner = importlib.import_module(module_name)
        for part in outer:
            owner = getattr(owner, part)
    except (ImportError, AttributeError) as error:
        raise LookupError(f"{target} is not in this release: {error}") from error
    return owner, name


def defining_owner(target: str) -> tuple[Owner, str]:
    """Returns the module or class that defines a symbol, which may be inherited, and its name.

    Another library may have wrapped an inherited method in the class that is named, and may remove
    its wrapper again. So a definition by the package itself is preferred.

    Args:
        target: As in `named_owner`.

    Raises:
        LookupError: If the installed release does not define the symbol.

    Example:
        >>> owner, name = defining_owner("collections:OrderedDict.fromkeys")
        >>> owner.__name__, name
        ('OrderedDict', 'fromkeys')
    """
    owner, name = named_owner(target)
    package = target.partition(":")[0].partition(".")[0]
    owners = [each for each in lineage(owner) if name in vars(each)]
    own = [each for each in owners if module_of(vars(each)[name]).partition(".")[0] == package]
    if not owners:
        raise LookupError(f"{target} is not in this release")
    return (own or owners)[0], name


def module_of(value: Any) -> str:
    """Returns the module whose code defines a function, method or class.

    Not `__module__`, which a wrapper copies from what it wraps. Of a symbol that this package has
    replaced it is the module of the original.
    """
    value = getattr(value, "__tfscale_original__", value)
    value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    known = getattr(value, "__globals__", {}).get("__name__")
    return str(known or getattr(value, "__module__", ""))


def lineage(owner: Owner) -> tuple[Owner, ...]:
    """Returns a class and those it inherits from, in the order of lookup; or a module itself.

    Without `object`, which has no source.
    """
    return owner.__mro__[:-1] if isinstance(owner, type) else (owner,)


def rebind(owner: Owner, name: str, value: object) -> None:
    """Binds a name to another value, also in modules of the same package that imported it.

    `from keras.src.losses.loss import reduce_weighted_values` binds the name again, so a function
    that is replaced in its own module only would not be replaced for the importing module.

    Args:
        owner: The module or class that defines the name.
        name: The name.
        value: The new value.
    """
    former = vars(owner).get(name)
    if isinstance(owner, ModuleType):
        package = owner.__name__.partition(".")[0] + "."
        for module_name, module in list(sys.modules.items()):
            if module_name.startswith(package) and vars(module).get(name) is former:
                setattr(module, name, value)
    setattr(owner, name, value)
