/* The compiled twin of minikafka/records/walk.py, which says what is walked over and what comes out;
 * both are held to the same answers by tests/unit/records/test_walk.py.
 *
 * Nothing is copied, and nothing is read beyond the end of the buffer: a length counts only after it
 * was compared with what is left. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#define NAMED_AT_MOST 1000 /* walk.py has the same */

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
} Cursor;

/* A zigzag varint of at most `longest` bytes; 0: it ends beyond the end or is too long. */
static int varint(Cursor *cursor, int longest, int64_t *value)
{
    uint64_t bits = 0;
    for (int index = 0; index < longest; index++) {
        if (cursor->at == cursor->end)
            return 0;
        uint8_t byte = *cursor->at++;
        if (index == 9 && byte > 1)
            return 0; /* the tenth has room for one bit of 64 */
        bits |= (uint64_t)(byte & 0x7F) << (7 * index);
        if (byte < 0x80) {
            *value = (int64_t)(bits >> 1) ^ -(int64_t)(bits & 1);
            return 1;
        }
    }
    return 0;
}

static int short_varint(Cursor *cursor, int64_t *value)
{
    return varint(cursor, 5, value) && *value >= INT32_MIN && *value <= INT32_MAX;
}

/* Bytes with their length before them, -1 for none; 0: impossible. */
static int bytes_of(Cursor *cursor, int64_t *length)
{
    if (!short_varint(cursor, length) || *length < -1)
        return 0;
    if (*length > cursor->end - cursor->at)
        return 0;
    if (*length > 0)
        cursor->at += *length;
    return 1;
}

static int is_text(const uint8_t *at, int64_t length)
{
    int64_t index = 0;
    while (index < length && at[index] < 0x80)
        index++;
    if (index == length)
        return 1;
    PyObject *text = PyUnicode_DecodeUTF8((const char *)at, (Py_ssize_t)length, NULL);
    if (text == NULL) {
        PyErr_Clear();
        return 0;
    }
    Py_DECREF(text);
    return 1;
}

static const char *headers_of(Cursor *cursor)
{
    int64_t count, length;
    if (!short_varint(cursor, &count) || count < 0)
        return "its header count is impossible";
    for (int64_t index = 0; index < count; index++) {
        if (!bytes_of(cursor, &length) || length < 0)
            return "a header's key does not fit";
        if (!is_text(cursor->at - length, length))
            return "a header's key is not UTF-8";
        if (!bytes_of(cursor, &length))
            return "a header's value does not fit";
    }
    return NULL;
}

static int name(PyObject **list, int64_t index)
{
    if (*list == NULL && (*list = PyList_New(0)) == NULL)
        return 0;
    if (PyList_GET_SIZE(*list) >= NAMED_AT_MOST)
        return 1;
    PyObject *number = PyLong_FromLongLong(index);
    if (number == NULL)
        return 0;
    int failed = PyList_Append(*list, number);
    Py_DECREF(number);
    return !failed;
}

static PyObject *walk(PyObject *module, PyObject *const *arguments, Py_ssize_t count_of_arguments)
{
    if (count_of_arguments != 8) {
        PyErr_SetString(PyExc_TypeError, "walk takes 8 arguments");
        return NULL;
    }
    int64_t numbers[7]; /* start, count, first, base_timestamp_ms, keyed, oldest_ms, newest_ms */
    for (int index = 0; index < 7; index++) {
        numbers[index] = PyLong_AsLongLong(arguments[index + 1]);
        if (numbers[index] == -1 && PyErr_Occurred())
            return NULL;
    }
    int64_t count = numbers[1], first = numbers[2], base_ms = numbers[3];
    int64_t keyed = numbers[4], oldest_ms = numbers[5], newest_ms = numbers[6];
    Py_buffer buffer;
    if (PyObject_GetBuffer(arguments[0], &buffer, PyBUF_SIMPLE) < 0)
        return NULL;
    const uint8_t *data = buffer.buf, *end = data + buffer.len;
    if (numbers[0] < 0 || numbers[0] > buffer.len) {
        PyBuffer_Release(&buffer);
        PyErr_SetString(PyExc_ValueError, "the start is outside of the data");
        return NULL;
    }
    Cursor cursor = {data + numbers[0], end};
    const char *problem = NULL;
    PyObject *keyless = NULL, *untimely = NULL, *result = NULL;
    int64_t walked = 0, wanted = 0, max_ms = -1, max_index = -1;
    while (walked < count) {
        Cursor record = cursor;
        int64_t length, delta_ms, delta, key, value;
        if (!short_varint(&record, &length)) {
            if (end - cursor.at >= 5)
                problem = "its length is impossible";
            else
                wanted = end - cursor.at + 1;
            break;
        }
        if (length <= 0) {
            problem = "its length is impossible";
            break;
        }
        if (length > end - record.at) {
            wanted = (record.at - cursor.at) + length;
            break;
        }
        record.end = record.at + length;
        if (*record.at++ & 0x80) { /* the attributes */
            problem = "its attributes are above 127";
            break;
        }
        if (!varint(&record, 10, &delta_ms) || !short_varint(&record, &delta)) {
            problem = "its timestamp or its offset does not fit";
            break;
        }
        if (delta != first + walked) {
            problem = "its offset delta is not its place in the batch";
            break;
        }
        int64_t timestamp_ms;
        if (__builtin_add_overflow(base_ms, delta_ms, &timestamp_ms)) {
            problem = "its timestamp is beyond 64 bits";
            break;
        }
        if (!bytes_of(&record, &key)) {
            problem = "its key does not fit";
            break;
        }
        if (!bytes_of(&record, &value)) {
            problem = "its value does not fit";
            break;
        }
        if (record.at == record.end) {
            problem = "its header count is missing";
            break;
        }
        if (*record.at == 0)
            record.at++;
        else if ((problem = headers_of(&record)) != NULL)
            break;
        if (record.at != record.end) {
            problem = "its fields do not fill its length";
            break;
        }
        if (timestamp_ms > max_ms) {
            max_ms = timestamp_ms;
            max_index = first + walked;
        }
        if (keyed && key < 0 && !name(&keyless, first + walked))
            goto done;
        if (timestamp_ms != -1 && (timestamp_ms < oldest_ms || timestamp_ms > newest_ms)
            && !name(&untimely, first + walked))
            goto done;
        walked++;
        cursor.at = record.end;
    }
    result = Py_BuildValue("(nLLLLOOz)", (Py_ssize_t)(cursor.at - data), (long long)walked,
                           (long long)wanted, (long long)max_ms, (long long)max_index,
                           keyless ? keyless : Py_None, untimely ? untimely : Py_None, problem);
done:
    Py_XDECREF(keyless);
    Py_XDECREF(untimely);
    PyBuffer_Release(&buffer);
    return result;
}

static PyMethodDef methods[] = {
    {"walk", (PyCFunction)(void (*)(void))walk, METH_FASTCALL, "See minikafka/records/walk.py."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT, .m_name = "_walk", .m_size = 0, .m_methods = methods};

PyMODINIT_FUNC PyInit__walk(void)
{
    return PyModuleDef_Init(&definition);
}
