// Counts every byte the C heap hands out: preload it, then read or reset the peak through ctypes.
#include <malloc.h>
#include <stddef.h>
#include <errno.h>
extern void *__libc_malloc(size_t); extern void *__libc_calloc(size_t,size_t); extern void *__libc_realloc(void*,size_t);
extern void *__libc_memalign(size_t,size_t); extern void __libc_free(void*);
static long now, top;
static void grow(void *p){ if(!p) return; long n=__atomic_add_fetch(&now,(long)malloc_usable_size(p),__ATOMIC_RELAXED); long t=__atomic_load_n(&top,__ATOMIC_RELAXED);
  while(n>t && !__atomic_compare_exchange_n(&top,&t,n,1,__ATOMIC_RELAXED,__ATOMIC_RELAXED)); }
static void shrink(void *p){ if(p) __atomic_sub_fetch(&now,(long)malloc_usable_size(p),__ATOMIC_RELAXED); }
void *malloc(size_t n){ void*p=__libc_malloc(n); grow(p); return p; }
void *calloc(size_t a,size_t b){ void*p=__libc_calloc(a,b); grow(p); return p; }
void *realloc(void*o,size_t n){ shrink(o); void*p=__libc_realloc(o,n); grow(p?p:(n?o:0)); return p; }
void *memalign(size_t a,size_t n){ void*p=__libc_memalign(a,n); grow(p); return p; }
void *aligned_alloc(size_t a,size_t n){ return memalign(a,n); }
int posix_memalign(void**o,size_t a,size_t n){ void*p=memalign(a,n); if(!p) return ENOMEM; *o=p; return 0; }
void free(void*p){ shrink(p); __libc_free(p); }
long heap_now(void){return __atomic_load_n(&now,__ATOMIC_RELAXED);} long heap_peak(void){return __atomic_load_n(&top,__ATOMIC_RELAXED);}
void heap_reset(void){ __atomic_store_n(&top,__atomic_load_n(&now,__ATOMIC_RELAXED),__ATOMIC_RELAXED);} 
