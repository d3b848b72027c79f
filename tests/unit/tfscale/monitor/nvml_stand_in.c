/* What NVIDIA's management library answers on a host with two GPUs, whose counters are in a file.

   NVML_STAND_IN names the file: "JOULES_OF_GPU_0 JOULES_OF_GPU_1", in millijoules. Names and
   numbers are those of the library's public interface; what is missing here "is not found". */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, UNKNOWN = 999 };
enum { GPUS = 2, AMPERE = 7 };

static int gpus[GPUS] = {0, 1};
static int is_initialized;

int nvmlInit_v2(void) { is_initialized = 1; return SUCCESS; }
int nvmlInitWithFlags(unsigned int flags) { return nvmlInit_v2(); }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int result) { return result == NOT_SUPPORTED ? "Not Supported" : "Error"; }

int nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = GPUS;
    return is_initialized ? SUCCESS : UNINITIALIZED;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    if (index >= GPUS) return INVALID_ARGUMENT;
    *device = &gpus[index];
    return is_initialized ? SUCCESS : UNINITIALIZED;
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned int length) {
    snprintf(uuid, length, "GPU-%d", *(int *)device);
    return SUCCESS;
}

int nvmlDeviceGetName(void *device, char *name, unsigned int length) {
    snprintf(name, length, "Stand-in");
    return SUCCESS;
}

int nvmlDeviceGetArchitecture(void *device, unsigned int *architecture) {
    *architecture = AMPERE;
    return SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
    unsigned long long found[GPUS];
    FILE *file = fopen(getenv("NVML_STAND_IN"), "r");
    if (file == NULL) return UNKNOWN;
    int read = fscanf(file, "%llu %llu", &found[0], &found[1]);
    fclose(file);
    if (read != GPUS) return UNKNOWN;
    *millijoules = found[*(int *)device];
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts) {
    *milliwatts = 250000;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(void *device, unsigned int *percent) {
    percent[0] = 40; /* of the time, kernels ran */
    percent[1] = 10; /* of the time, memory was read or written */
    return SUCCESS;
}
