/* A CUDA runtime and driver without a GPU: one device that computes nothing.

   Preloaded as libcuda.so.1, it lets a CUDA build of torch find a GPU, make streams, events and generators, and run its
   autograd. Events hold the time of the host. A call that would compute or move bytes is not here: it reaches the real
   runtime and fails. The tensors of pretend_gpu/cuda.py never make one. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <driver_types.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MEMORY (8ull << 30)
#define VERSION 13000
#define SUCCEEDS(name, ...) cudaError_t name(__VA_ARGS__) { return cudaSuccess; }
#define UNSUPPORTED(name) int name(void) { return 801; }

#undef cudaGetDeviceProperties
cudaError_t cudaGetDeviceCount(int *count) { *count = 1; return cudaSuccess; }
cudaError_t cudaGetDevice(int *device) { *device = 0; return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *version) { *version = VERSION; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *version) { *version = VERSION; return cudaSuccess; }
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) { *least = *greatest = 0; return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t *available, size_t *total) { *available = *total = MEMORY; return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *found, int device) {
  memset(found, 0, sizeof *found);
  strcpy(found->name, "Pretend GPU");
  found->major = 9;
  found->totalGlobalMem = MEMORY;
  found->multiProcessorCount = 132;
  found->warpSize = 32;
  found->maxThreadsPerBlock = 1024;
  found->maxThreadsPerMultiProcessor = 2048;
  found->regsPerMultiprocessor = 65536;
  return cudaSuccess;
}
SUCCEEDS(cudaSetDevice, int device)
SUCCEEDS(cudaGetLastError, void)
SUCCEEDS(cudaPeekAtLastError, void)
SUCCEEDS(cudaDeviceSynchronize, void)

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
  *stream = malloc(1);
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
  return cudaStreamIsCapturing(stream, status);
}
SUCCEEDS(cudaStreamSynchronize, cudaStream_t stream)
SUCCEEDS(cudaStreamQuery, cudaStream_t stream)
SUCCEEDS(cudaStreamWaitEvent, cudaStream_t stream, cudaEvent_t event, unsigned flags)
SUCCEEDS(cudaThreadExchangeStreamCaptureMode, enum cudaStreamCaptureMode *mode)

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
  *event = malloc(sizeof(struct timespec));
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  clock_gettime(CLOCK_MONOTONIC, (struct timespec *)event);
  return cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
  return cudaEventRecord(event, stream);
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
  struct timespec *from = (struct timespec *)start, *to = (struct timespec *)end;
  *milliseconds = (to->tv_sec - from->tv_sec) * 1e3 + (to->tv_nsec - from->tv_nsec) / 1e6;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) { free(event); return cudaSuccess; }
SUCCEEDS(cudaEventQuery, cudaEvent_t event)
SUCCEEDS(cudaEventSynchronize, cudaEvent_t event)

cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **found, unsigned version, unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *status) {
  *found = dlsym(RTLD_DEFAULT, name);
  if (status) *status = *found ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

int cuInit(unsigned flags) { return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDriverGetVersion(int *version) { *version = VERSION; return 0; }
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *flags = 0; *active = 1; return 0; }
/* torch looks these up when it starts */
UNSUPPORTED(cuCtxFromGreenCtx) UNSUPPORTED(cuCtxGetCurrent) UNSUPPORTED(cuCtxPopCurrent)
UNSUPPORTED(cuCtxPushCurrent) UNSUPPORTED(cuCtxSetCurrent) UNSUPPORTED(cuDevResourceGenerateDesc)
UNSUPPORTED(cuDevSmResourceSplitByCount) UNSUPPORTED(cuDeviceGet) UNSUPPORTED(cuDeviceGetAttribute)
UNSUPPORTED(cuDeviceGetDevResource) UNSUPPORTED(cuDevicePrimaryCtxRetain) UNSUPPORTED(cuGetErrorName)
UNSUPPORTED(cuGetErrorString) UNSUPPORTED(cuGreenCtxCreate) UNSUPPORTED(cuGreenCtxDestroy)
UNSUPPORTED(cuGreenCtxStreamCreate) UNSUPPORTED(cuLogsRegisterCallback) UNSUPPORTED(cuLogsUnregisterCallback)
UNSUPPORTED(cuMemAddressFree) UNSUPPORTED(cuMemAddressReserve) UNSUPPORTED(cuMemCreate)
UNSUPPORTED(cuMemExportToShareableHandle) UNSUPPORTED(cuMemGetAddressRange) UNSUPPORTED(cuMemGetAllocationGranularity)
UNSUPPORTED(cuMemGetAllocationPropertiesFromHandle) UNSUPPORTED(cuMemImportFromShareableHandle) UNSUPPORTED(cuMemMap)
UNSUPPORTED(cuMemRelease) UNSUPPORTED(cuMemRetainAllocationHandle) UNSUPPORTED(cuMemSetAccess)
UNSUPPORTED(cuMemUnmap) UNSUPPORTED(cuMemsetD32Async) UNSUPPORTED(cuMulticastAddDevice)
UNSUPPORTED(cuMulticastBindMem) UNSUPPORTED(cuMulticastCreate) UNSUPPORTED(cuMulticastUnbind)
UNSUPPORTED(cuStreamWriteValue32)
