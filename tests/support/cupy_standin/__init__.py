"""A CuPy with no GPU: what its functions take and refuse, on NumPy's numbers.

`install()` puts it in CuPy's place in `sys.modules`, so that everything above CuPy is real: the
wrapper of array-api-compat, and whatever vtnp does with a module called `cupy`. As CuPy does:

- every call fits the signature that CuPy 14 has (`tests/support/cupy_signatures.json`);
- a ufunc has the loops that CuPy compiles, and no others, and picks one as CuPy does;
- every result is an array, 0-d ones included; there are no warnings and no LinAlgError;
- an array belongs to one of two devices, and is used on the current one only;
- NumPy's arrays are refused as operands, and no array turns into NumPy's by itself.

What CuPy does in silence, and a formula must not rely on, raises `UndefinedError`: an index out of
range wraps around, and a float that no integer can hold becomes any integer.

`watched()` counts calls, and everything that makes the host wait for the device or copies between
the two. Functions of CuPy that nobody has needed yet have their signature and no result.
"""

from tests.support.cupy_standin.arrays import UndefinedError, ndarray
from tests.support.cupy_standin.devices import Device, Record, Transfer, watched
from tests.support.cupy_standin.modules import install

__all__ = ["Device", "Record", "Transfer", "UndefinedError", "install", "ndarray", "watched"]
