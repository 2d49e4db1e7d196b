/*
 * Attention through the C interface on the emulator, forward and backward, against the same in plain C.
 *
 *     cc attention.c -I../include -L../../target/release -lflash_attention_c -lm -o attention
 */
#include <flash_attention.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { HEADS = 2, QUERIES = 7, KEYS = 9, DIM = 8, Q_COUNT = HEADS * QUERIES * DIM, K_COUNT = HEADS * KEYS * DIM };

/* Ends the program with the library's words where a call failed. */
static void good(int32_t code) {
    if (code != FA_OK) {
        fprintf(stderr, "code %d: %s\n", (int)code, fa_last_error());
        exit(1);
    }
}

static void must(int condition, const char *claim) {
    if (!condition) {
        fprintf(stderr, "not so: %s\n", claim);
        exit(1);
    }
}

static float number(int i) { return (float)sin(1.7 * i + 0.3); }

static uint64_t device_copy(fa_device *device, const float *values, int count) {
    uint64_t address = 0;
    good(fa_alloc(device, (uint64_t)count * sizeof(float), &address));
    good(fa_write(device, address, values, (uint64_t)count * sizeof(float)));
    return address;
}

static double largest_error(const float *given, const double *expected, int count) {
    double largest = 0;
    for (int i = 0; i < count; i++) {
        double error = fabs(given[i] - expected[i]);
        /* Not `error > largest`: NaN must count. */
        if (!(error <= largest)) largest = error;
    }
    return largest;
}

/* Causal attention in double, lower right: the output, and the gradient of v. */
static void reference(const float *q, const float *k, const float *v, const float *dout, double *out, double *dv) {
    for (int i = 0; i < Q_COUNT; i++) out[i] = 0;
    for (int i = 0; i < K_COUNT; i++) dv[i] = 0;
    for (int h = 0; h < HEADS; h++)
        for (int i = 0; i < QUERIES; i++) {
            double weights[KEYS], sum = 0;
            int seen = i + KEYS - QUERIES + 1, row = (h * QUERIES + i) * DIM;
            for (int j = 0; j < seen; j++) {
                double score = 0;
                for (int c = 0; c < DIM; c++) score += (double)q[row + c] * k[(h * KEYS + j) * DIM + c];
                weights[j] = exp(score / sqrt((double)DIM));
                sum += weights[j];
            }
            for (int j = 0; j < seen; j++)
                for (int c = 0; c < DIM; c++) {
                    out[row + c] += weights[j] / sum * v[(h * KEYS + j) * DIM + c];
                    dv[(h * KEYS + j) * DIM + c] += weights[j] / sum * dout[row + c];
                }
        }
}

int main(void) {
    const uint64_t sizes[] = {sizeof(fa_tensor), sizeof(fa_problem), sizeof(fa_forward_tensors),
                              sizeof(fa_backward_tensors), sizeof(fa_execution)};
    for (int which = 0; which < 5; which++)
        must(sizes[which] == fa_struct_size(which), "header and library have the same structs");

    float q[Q_COUNT], k[K_COUNT], v[K_COUNT], dout[Q_COUNT], zeros[K_COUNT] = {0};
    for (int i = 0; i < Q_COUNT; i++) q[i] = number(i), dout[i] = number(3 * i + 1);
    for (int i = 0; i < K_COUNT; i++) k[i] = number(i + 1000), v[i] = number(i + 2000);

    fa_device *device = NULL;
    good(fa_device_emulator(0, &device));
    const int64_t q_shape[] = {1, HEADS, QUERIES, DIM}, k_shape[] = {1, HEADS, KEYS, DIM};
    fa_problem problem;
    good(fa_problem_init(&problem));
    problem.q = fa_contiguous(device_copy(device, q, Q_COUNT), FA_F32, 4, q_shape);
    problem.k = fa_contiguous(device_copy(device, k, K_COUNT), FA_F32, 4, k_shape);
    problem.v = fa_contiguous(device_copy(device, v, K_COUNT), FA_F32, 4, k_shape);
    problem.causal = FA_CAUSAL_LOWER_RIGHT;

    fa_forward_tensors forward = {
        .out = fa_contiguous(device_copy(device, zeros, Q_COUNT), FA_F32, 4, q_shape),
        .lse = fa_contiguous(device_copy(device, zeros, HEADS * QUERIES), FA_F32, 3, q_shape),
    };
    good(fa_forward(device, &problem, &forward, NULL));

    fa_backward_tensors backward = {
        .out = forward.out,
        .lse = forward.lse,
        .dout = fa_contiguous(device_copy(device, dout, Q_COUNT), FA_F32, 4, q_shape),
        .dq = fa_contiguous(device_copy(device, zeros, Q_COUNT), FA_F32, 4, q_shape),
        .dk = fa_contiguous(device_copy(device, zeros, K_COUNT), FA_F32, 4, k_shape),
        .dv = fa_contiguous(device_copy(device, zeros, K_COUNT), FA_F32, 4, k_shape),
    };
    must(fa_backward(device, &problem, &backward, NULL) == FA_ERROR_WORKSPACE, "backward needs a workspace");
    printf("without a workspace: %s\n", fa_last_error());
    fa_execution execution = {0};
    good(fa_backward_workspace(device, &problem, &backward, &execution.workspace_bytes));
    good(fa_alloc(device, execution.workspace_bytes, &execution.workspace));
    good(fa_backward(device, &problem, &backward, &execution));

    float out[Q_COUNT], dv[K_COUNT];
    good(fa_read(device, forward.out.data, out, sizeof out));
    good(fa_read(device, backward.dv.data, dv, sizeof dv));
    double expected_out[Q_COUNT], expected_dv[K_COUNT];
    reference(q, k, v, dout, expected_out, expected_dv);
    double out_error = largest_error(out, expected_out, Q_COUNT), dv_error = largest_error(dv, expected_dv, K_COUNT);
    printf("largest error of out %.2e, of dv %.2e\n", out_error, dv_error);
    must(out_error < 1e-5 && dv_error < 1e-5, "the results are those of plain C");
    good(fa_device_close(device));
    printf("flash_attention %s: good\n", fa_version());
    return 0;
}
