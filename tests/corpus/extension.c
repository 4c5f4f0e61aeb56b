// A C library for Python, as an extension module and for ctypes: what a request keeps.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "tests/corpus/requests.h"

__attribute__((noinline)) static void ExtensionKeeps(size_t size) { Touch(malloc(size)); }

// For ctypes.
__attribute__((visibility("default"))) void ctypes_keeps(int size) {
  void* block = malloc((size_t)size);
  Touch(block);
}
__attribute__((visibility("default"))) void ctypes_answered(void) { Answered(); }

static PyObject* Leak(PyObject* self, PyObject* arguments) {
  (void)self;
  Py_ssize_t size = 0;
  if (!PyArg_ParseTuple(arguments, "n", &size)) return NULL;
  ExtensionKeeps((size_t)size);
  Py_RETURN_NONE;
}

// A reference too many: the object is never freed.
static PyObject* LoseReference(PyObject* self, PyObject* arguments) {
  (void)self;
  PyObject* object = PyBytes_FromStringAndSize(NULL, 3000);
  (void)arguments;
  Py_XINCREF(object);
  return object;
}

__attribute__((noinline)) static void ExtensionCaches(void) {
  static void* slots[40];
  static int next;
  free(slots[next]);
  slots[next] = malloc(5000);
  next = (next + 1) % 40;
}
static PyObject* Cache(PyObject* self, PyObject* arguments) {
  (void)self;
  (void)arguments;
  ExtensionCaches();
  Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"leak", Leak, METH_VARARGS, NULL},
                                {"lose_reference", LoseReference, METH_NOARGS, NULL},
                                {"cache", Cache, METH_NOARGS, NULL},
                                {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "corpus_extension", NULL, -1, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_corpus_extension(void);
PyMODINIT_FUNC PyInit_corpus_extension(void) { return PyModule_Create(&module); }
