/* The tests' NPU: an external delegate of TensorFlow Lite that runs int8 CONV_2D, CONCATENATION and LOGISTIC on the CPU,
 * slowly and obviously, and that fails on demand. Built by the tests with `gcc -shared -fPIC`; no header of
 * TensorFlow Lite is needed, since the part of its C interface that is used is declared below.
 *
 * Options, all text:
 *   operators   which it takes, separated by commas: conv, concat, logistic; by default all
 *   fail        where it fails: create, prepare or invoke; by default nowhere
 *   how         error (by default), hang, crash, or wrong (invoke only: the answer is off by `offset`)
 *   after       so many invocations succeed first
 *   while       a path: it fails only as long as a file stands there
 *   offset      what `wrong` adds to every value of the output, by default 40
 */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The C interface, as TensorFlow Lite 2.14 and LiteRT 2.3 have it. */

typedef enum { OK = 0, ERROR = 1, DELEGATE_ERROR = 2 } Status;
enum { INT8 = 9 };
enum { CONCATENATION = 2, CONV_2D = 3, LOGISTIC = 14, DELEGATE = 51 };
enum { SAME = 1 };
enum { NO_ACTIVATION = 0, RELU = 1 };

typedef struct { int size; int data[]; } IntArray;
typedef struct { int size; float data[]; } FloatArray;
typedef struct { FloatArray* scale; IntArray* zero_point; int32_t dimension; } AffineQuantization;
typedef struct Delegate Delegate;
typedef struct Context Context;

typedef struct {
    int type;
    void* data;
    IntArray* dims;
    struct { float scale; int32_t zero_point; } params;
    int allocation_type;
    size_t bytes;
    const void* allocation;
    const char* name;
    Delegate* delegate;
    int buffer_handle;
    bool data_is_stale, is_variable;
    struct { int type; void* params; } quantization;
    void* sparsity;
    const IntArray* dims_signature;
} Tensor;

typedef struct {
    IntArray *inputs, *outputs, *intermediates, *temporaries;
    void *user_data, *builtin_data;
    const void* custom_initial_data;
    int custom_initial_data_size;
    Delegate* delegate;
    bool might_have_side_effect;
} Node;

typedef struct {
    void* (*init)(Context*, const char* buffer, size_t length);
    void (*free)(Context*, void* user_data);
    Status (*prepare)(Context*, Node*);
    Status (*invoke)(Context*, Node*);
    const char* (*profiling_string)(const Context*, const Node*);
    int32_t builtin_code;
    const char* custom_name;
    int version;
    void *registration_external, *async_kernel;
    uint64_t inplace_operator;
    uint64_t room_for_later_versions[4]; /* it is passed by value */
} Registration;

struct Context {
    size_t tensors_size;
    Status (*get_execution_plan)(Context*, IntArray**);
    Tensor* tensors;
    void* implementation;
    Status (*resize_tensor)(Context*, Tensor*, IntArray*);
    void (*report_error)(Context*, const char* format, ...);
    Status (*add_tensors)(Context*, int, int*);
    Status (*get_node_and_registration)(Context*, int, Node**, Registration**);
    Status (*replace_node_subsets)(Context*, Registration, const IntArray* nodes, Delegate*);
};

struct Delegate {
    void* data;
    Status (*prepare)(Context*, Delegate*);
    void *copy_from_buffer, *copy_to_buffer, *free_buffer;
    int64_t flags;
    void* opaque_builder;
    uint64_t room_for_later_versions[8];
};

typedef struct { Delegate* delegate; IntArray *nodes, *inputs, *outputs; } DelegateParams;
typedef struct { int padding, stride_width, stride_height, activation, dilation_width, dilation_height; } ConvParams;
typedef struct { int axis, activation; } ConcatenationParams;

/* The device. */

typedef struct {
    bool conv, concat, logistic;
    char fail[16], how[16], while_path[256];
    long after, invocations;
    int offset;
} Device;

static bool fails(const Device* device, const char* stage) {
    if (strcmp(device->fail, stage) != 0 || device->invocations < device->after) return false;
    if (device->while_path[0] && access(device->while_path, F_OK) != 0) return false;
    if (strcmp(device->how, "hang") == 0)
        for (;;) pause();
    if (strcmp(device->how, "crash") == 0) abort();
    return true;
}

static bool takes(const Device* device, const Context* context, const Node* node, const Registration* operator) {
    if (context->tensors[node->inputs->data[0]].type != INT8) return false;
    if (operator->builtin_code == CONV_2D) {
        const ConvParams* conv = node->builtin_data;
        return device->conv && conv->padding == SAME && conv->stride_width == 1 && conv->stride_height == 1 &&
               conv->dilation_width == 1 && conv->dilation_height == 1 && conv->activation <= RELU;
    }
    if (operator->builtin_code == CONCATENATION) {
        const ConcatenationParams* concat = node->builtin_data;
        return device->concat && (concat->axis == 3 || concat->axis == -1) && concat->activation == NO_ACTIVATION;
    }
    return operator->builtin_code == LOGISTIC && device->logistic;
}

static int8_t clamped(double value, int low) {
    double rounded = nearbyint(value);
    return (int8_t)(rounded < low ? low : rounded > 127 ? 127 : rounded);
}

static void convolve(const Context* context, const Node* node, int8_t** data) {
    const ConvParams* options = node->builtin_data;
    const int *in = node->inputs->data, out = node->outputs->data[0];
    const Tensor *source = &context->tensors[in[0]], *weights = &context->tensors[in[1]];
    const Tensor* target = &context->tensors[out];
    const AffineQuantization* quantization = weights->quantization.params;
    const int8_t *w = weights->data, *x = data[in[0]];
    const int32_t* bias = node->inputs->size > 2 && in[2] >= 0 ? context->tensors[in[2]].data : NULL;
    int height = target->dims->data[1], width = target->dims->data[2], channels = target->dims->data[3];
    int rows = weights->dims->data[1], columns = weights->dims->data[2], depth = weights->dims->data[3];
    int low = options->activation == RELU ? target->params.zero_point : -128;
    low = low < -128 ? -128 : low;
    for (int y = 0; y < height; y++)
        for (int z = 0; z < width; z++)
            for (int c = 0; c < channels; c++) {
                int32_t sum = bias ? bias[c] : 0;
                for (int i = 0; i < rows; i++)
                    for (int j = 0; j < columns; j++) {
                        int sy = y + i - (rows - 1) / 2, sx = z + j - (columns - 1) / 2;
                        if (sy < 0 || sy >= height || sx < 0 || sx >= width) continue;
                        const int8_t* pixel = x + (sy * width + sx) * depth;
                        const int8_t* kernel = w + ((c * rows + i) * columns + j) * depth;
                        for (int d = 0; d < depth; d++) sum += (pixel[d] - source->params.zero_point) * kernel[d];
                    }
                double scale = quantization->scale->data[quantization->scale->size > 1 ? c : 0];
                scale *= (double)source->params.scale / target->params.scale;
                data[out][(y * width + z) * channels + c] = clamped(sum * scale + target->params.zero_point, low);
            }
}

static void concatenate(const Context* context, const Node* node, int8_t** data) {
    const Tensor* target = &context->tensors[node->outputs->data[0]];
    int pixels = target->dims->data[0] * target->dims->data[1] * target->dims->data[2];
    int channels = target->dims->data[3], first = 0;
    for (int i = 0; i < node->inputs->size; i++) {
        int depth = context->tensors[node->inputs->data[i]].dims->data[3];
        for (int p = 0; p < pixels; p++)
            memcpy(data[node->outputs->data[0]] + p * channels + first, data[node->inputs->data[i]] + p * depth, depth);
        first += depth;
    }
}

static void logistic(const Context* context, const Node* node, int8_t** data) {
    int in = node->inputs->data[0], out = node->outputs->data[0];
    const Tensor *source = &context->tensors[in], *target = &context->tensors[out];
    for (size_t i = 0; i < target->bytes; i++) {
        double x = (data[in][i] - source->params.zero_point) * (double)source->params.scale;
        data[out][i] = clamped(1 / (1 + exp(-x)) / target->params.scale + target->params.zero_point, -128);
    }
}

/* One subset of the graph. Its nodes are copied, since the interpreter tells of them only while it asks for the kernel;
 * tensors that only they see have no memory of the interpreter's. */

typedef struct {
    Device* device;
    int count, *operators;
    Node* nodes;
    int8_t **data, **own; /* by tensor */
    size_t tensors;
} Kernel;

static void* kernel_init(Context* context, const char* buffer, size_t length) {
    (void)length;
    const DelegateParams* params = (const DelegateParams*)buffer;
    Kernel* kernel = calloc(1, sizeof *kernel);
    kernel->device = params->delegate->data;
    kernel->count = params->nodes->size;
    kernel->nodes = calloc(kernel->count, sizeof *kernel->nodes);
    kernel->operators = calloc(kernel->count, sizeof *kernel->operators);
    kernel->tensors = context->tensors_size;
    kernel->data = calloc(kernel->tensors, sizeof *kernel->data);
    kernel->own = calloc(kernel->tensors, sizeof *kernel->own);
    for (int i = 0; i < kernel->count; i++) {
        Node* node;
        Registration* operator;
        context->get_node_and_registration(context, params->nodes->data[i], &node, &operator);
        kernel->nodes[i] = *node;
        kernel->operators[i] = operator->builtin_code;
        int out = node->outputs->data[0];
        bool seen = false;
        for (int j = 0; j < params->outputs->size; j++) seen = seen || params->outputs->data[j] == out;
        if (!seen) kernel->own[out] = malloc(context->tensors[out].bytes);
    }
    return kernel;
}

static void kernel_free(Context* context, void* user_data) {
    (void)context;
    Kernel* kernel = user_data;
    for (size_t i = 0; i < kernel->tensors; i++) free(kernel->own[i]);
    free(kernel->nodes);
    free(kernel->operators);
    free(kernel->data);
    free(kernel->own);
    free(kernel);
}

static Status kernel_prepare(Context* context, Node* node) {
    (void)context;
    (void)node;
    return OK;
}

static Status kernel_invoke(Context* context, Node* self) {
    Kernel* kernel = self->user_data;
    Device* device = kernel->device;
    bool failing = fails(device, "invoke");
    if (failing && strcmp(device->how, "wrong") != 0) {
        context->report_error(context, "test NPU: device lost");
        return ERROR;
    }
    for (size_t i = 0; i < kernel->tensors; i++)
        kernel->data[i] = kernel->own[i] ? kernel->own[i] : context->tensors[i].data;
    for (int i = 0; i < kernel->count; i++) {
        if (kernel->operators[i] == CONV_2D) convolve(context, &kernel->nodes[i], kernel->data);
        if (kernel->operators[i] == CONCATENATION) concatenate(context, &kernel->nodes[i], kernel->data);
        if (kernel->operators[i] == LOGISTIC) logistic(context, &kernel->nodes[i], kernel->data);
    }
    if (failing)
        for (int i = 0; i < self->outputs->size; i++) {
            const Tensor* tensor = &context->tensors[self->outputs->data[i]];
            int8_t* values = tensor->data;
            for (size_t j = 0; j < tensor->bytes; j++) values[j] = clamped(values[j] + device->offset, -128);
        }
    device->invocations++;
    return OK;
}

static Status prepare(Context* context, Delegate* delegate) {
    Device* device = delegate->data;
    if (fails(device, "prepare")) {
        context->report_error(context, "test NPU: out of device memory");
        return ERROR;
    }
    IntArray* plan;
    if (context->get_execution_plan(context, &plan) != OK) return ERROR;
    int count = plan->size, *order = malloc(sizeof(int) * count); /* the plan is the interpreter's, and moves */
    memcpy(order, plan->data, sizeof(int) * count);
    IntArray* taken = malloc(sizeof(IntArray) + sizeof(int) * count);
    taken->size = 0;
    for (int i = 0; i < count; i++) {
        Node* node;
        Registration* operator;
        if (context->get_node_and_registration(context, order[i], &node, &operator) != OK) continue;
        if (takes(device, context, node, operator)) taken->data[taken->size++] = order[i];
    }
    Registration kernel = {0};
    kernel.init = kernel_init;
    kernel.free = kernel_free;
    kernel.prepare = kernel_prepare;
    kernel.invoke = kernel_invoke;
    kernel.builtin_code = DELEGATE;
    kernel.custom_name = "TestNpu";
    kernel.version = 1;
    Status status = taken->size ? context->replace_node_subsets(context, kernel, taken, delegate) : OK;
    free(taken);
    free(order);
    return status;
}

Delegate* tflite_plugin_create_delegate(char** keys, char** values, size_t count, void (*report)(const char*)) {
    Device* device = calloc(1, sizeof *device);
    const char* operators = "conv,concat,logistic";
    strcpy(device->how, "error");
    device->offset = 40;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(keys[i], "operators") == 0) operators = values[i];
        else if (strcmp(keys[i], "fail") == 0) snprintf(device->fail, sizeof device->fail, "%s", values[i]);
        else if (strcmp(keys[i], "how") == 0) snprintf(device->how, sizeof device->how, "%s", values[i]);
        else if (strcmp(keys[i], "while") == 0) snprintf(device->while_path, sizeof device->while_path, "%s", values[i]);
        else if (strcmp(keys[i], "after") == 0) device->after = atol(values[i]);
        else if (strcmp(keys[i], "offset") == 0) device->offset = atoi(values[i]);
        else {
            if (report) report("test NPU: unknown option");
            free(device);
            return NULL;
        }
    }
    device->conv = strstr(operators, "conv") != NULL;
    device->concat = strstr(operators, "concat") != NULL;
    device->logistic = strstr(operators, "logistic") != NULL;
    if (fails(device, "create")) {
        if (report) report("test NPU: device /dev/npu0 not found");
        free(device);
        return NULL;
    }
    Delegate* delegate = calloc(1, sizeof *delegate);
    delegate->data = device;
    delegate->prepare = prepare;
    return delegate;
}

void tflite_plugin_destroy_delegate(Delegate* delegate) {
    if (!delegate) return;
    free(delegate->data);
    free(delegate);
}
