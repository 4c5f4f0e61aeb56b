// Found only by the RPATH of the library that asks for it.
#include "tests/programs/program.h"

PROGRAM_KEEPER void KeepInDependency() { ollamatrace::programs::Opaque(malloc(400)); }
