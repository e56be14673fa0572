// Python extension module: resizing by one of the variants of the kernel (`kernel.h`).

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstring>
#include <new>
#include <vector>

#include "kernel.h"

namespace {

// Return the variants that this processor supports, the fastest first.
std::vector<const Variant*> supported_variants() {
    std::vector<const Variant*> supported;
#if HAS_VARIANTS
    for (const Variant* variant : {&AVX512_VBMI, &AVX512, &AVX2})
        if (variant->is_supported()) supported.push_back(variant);
#endif
    return supported;
}

const std::vector<const Variant*> VARIANTS = supported_variants();

PyObject* variants(PyObject*, PyObject*) {
    PyObject* names = PyTuple_New(VARIANTS.size());
    for (size_t i = 0; names && i < VARIANTS.size(); i++) {
        PyObject* name = PyUnicode_FromString(VARIANTS[i]->name);
        if (!name) Py_CLEAR(names);
        else PyTuple_SET_ITEM(names, i, name);
    }
    return names;
}

// Return whether a buffer has the shape of an RGB image of 8 bits.
bool is_image(const Py_buffer& buffer) {
    return buffer.itemsize == 1 && buffer.ndim == 3 && buffer.shape[2] == CHANNELS && buffer.len > 0;
}

bool lies_within(const Box& box, const Py_buffer& image) {
    return box.top >= 0 && box.left >= 0 && box.height > 0 && box.width > 0 && box.height <= image.shape[0] - box.top &&
        box.width <= image.shape[1] - box.left;
}

PyObject* resize_into(PyObject*, PyObject* arguments) {
    const char* name;
    Py_buffer from, to;
    PyObject *image, *result;
    Box box;
    int flip;
    if (!PyArg_ParseTuple(arguments, "sOllllpO", &name, &image, &box.top, &box.left, &box.height, &box.width, &flip, &result))
        return nullptr;
    const Variant* chosen = nullptr;
    for (const Variant* variant : VARIANTS)
        if (!std::strcmp(variant->name, name)) chosen = variant;
    if (!chosen) return PyErr_Format(PyExc_ValueError, "%s: not a variant that this processor supports", name);
    if (PyObject_GetBuffer(image, &from, PyBUF_ND) < 0) return nullptr;
    if (PyObject_GetBuffer(result, &to, PyBUF_ND | PyBUF_WRITABLE) < 0) {
        PyBuffer_Release(&from);
        return nullptr;
    }
    const bool fits = is_image(from) && is_image(to) && lies_within(box, from);
    bool allocated = true;
    if (fits) {
        Py_BEGIN_ALLOW_THREADS;
        try {
            const Image whole = {(const uint8_t*)from.buf, from.shape[0], from.shape[1]};
            chosen->resize(whole, box, flip, (uint8_t*)to.buf, to.shape[0], to.shape[1]);
        } catch (const std::bad_alloc&) {
            allocated = false;
        }
        Py_END_ALLOW_THREADS;
    }
    PyBuffer_Release(&from);
    PyBuffer_Release(&to);
    if (!allocated) return PyErr_NoMemory();
    if (fits) Py_RETURN_NONE;
    PyErr_SetString(PyExc_ValueError, "image and result must be (height, width, 3) bytes, and the box must lie within the image");
    return nullptr;
}

PyMethodDef METHODS[] = {
    {"variants", variants, METH_NOARGS, "Return the names of the variants that this processor supports, the fastest first."},
    {"resize_into", resize_into, METH_VARARGS, "Resize by a variant a box (top, left, height, width) of an image into another."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_bicubic_kernel", nullptr, -1, METHODS, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__bicubic_kernel() { return PyModule_Create(&MODULE); }
