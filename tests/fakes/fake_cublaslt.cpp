#include "fake_cublaslt.h"

#include <dlfcn.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <sstream>

#include "fake_cuda_peers.h"
#include "gelu.h"
#include "nearest_half.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

enum Status : int { success = 0, not_initialised = 1, invalid_value = 7, not_supported = 15 };
enum Type : int { fp32 = 0, fp16 = 2, int8 = 3, int32 = 10, bf16 = 14 };
enum Compute : int { compute_fp32 = 68, compute_int32 = 72 };

struct Descriptor {
  virtual ~Descriptor() = default;
};
struct Handle : Descriptor {
  int ordinal = -1;
};
// By columns: element (r, c) is number c * stride + r.
struct Layout : Descriptor {
  Layout(int t, uint64_t r, uint64_t c, int64_t s) : type(t), rows(r), columns(c), stride(s) {}
  int type;
  uint64_t rows, columns;
  int64_t stride;
};
struct Attributed : Descriptor {
  std::map<int, std::vector<char>> attributes;

  template <class T>
  T get(int attribute, T otherwise) const {
    const auto found = attributes.find(attribute);
    if (found == attributes.end()) return otherwise;
    T value;
    std::memcpy(&value, found->second.data(), sizeof value);
    return value;
  }
  int set(const std::map<int, size_t>& known, int attribute, const void* value, size_t bytes) {
    const auto found = known.find(attribute);
    if (found == known.end() || found->second != bytes) return invalid_value;
    const char* const from = static_cast<const char*>(value);
    attributes[attribute].assign(from, from + bytes);
    return success;
  }
};
struct Product : Attributed {
  int compute = 0, scale = 0;
  bool transposed(int attribute) const { return get<int32_t>(attribute, 0) == 1; }
  uint32_t epilogue() const { return get<uint32_t>(7, 1); }
  bool has_bias() const { return (epilogue() & 4) != 0; }
  bool has_gelu() const { return (epilogue() & ~4u) == 160; }
  bool has_gelu_slope() const { return epilogue() == 192; }
  bool has_gelu_array() const { return has_gelu() || has_gelu_slope(); }
};
struct Preference : Attributed {};

// What an algorithm was made for.
struct Made {
  uint64_t sizes, workspace_bytes;
  uint32_t alignment, reduction;
};
struct Algorithm {
  Made made;
  uint64_t rest[5];
};
static_assert(sizeof(Algorithm) == 64);
struct Proposal {
  Algorithm algorithm;
  size_t workspace_bytes;
  int state;
  float waves;
  int reserved[4];
};

fakes::FakeCublasLt seen;
std::string fail_call;
int fail_status = 0, fail_after = 0;
size_t version = 0;

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "fake_cublaslt: %s\n", what.c_str());
  std::abort();
}

const fakes::FakeCudaPeers& peers() {
  void* const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  void* const found = library == nullptr ? nullptr : dlsym(library, "fake_cuda_peers");
  if (found == nullptr) die("the driver of the tests is not open");
  return *static_cast<const fakes::FakeCudaPeers*>(found);
}

int begin(const char* call) { return fail_call == call && fail_after-- <= 0 ? fail_status : success; }

template <class T>
T& known(void* descriptor, const char* what) {
  T* const found = dynamic_cast<T*>(static_cast<Descriptor*>(descriptor));
  if (found == nullptr) die(std::string("no ") + what);
  return *found;
}

template <class T, class... Arguments>
T* make(Arguments... arguments) {
  ++seen.descriptors;
  return new T(arguments...);
}

int end(const char* call, void* descriptor) {
  --seen.descriptors;
  delete static_cast<Descriptor*>(descriptor);
  return begin(call);
}

// Of what is multiplied, as our own arrays are called: the library's a is our b, and its result ours transposed.
struct Sizes {
  uint64_t m, n, k;
  bool fits;
};

Sizes sizes_of(const Product& product, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
  const bool a_transposed = product.transposed(3), b_transposed = product.transposed(4);
  const Sizes sizes{b_transposed ? b.rows : b.columns, a_transposed ? a.columns : a.rows,
                    a_transposed ? a.rows : a.columns, true};
  const bool agree = (b_transposed ? b.columns : b.rows) == sizes.k && d.rows == sizes.n && d.columns == sizes.m &&
                     c.rows == d.rows && c.columns == d.columns && c.type == d.type && a.type == b.type;
  return agree ? sizes : Sizes{0, 0, 0, false};
}

// NVIDIA's documentation of cublasLtMatmul(): what is multiplied by tensor cores.
int check(const Product& product, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
  const Sizes sizes = sizes_of(product, a, b, c, d);
  if (!sizes.fits) return invalid_value;
  for (const Layout* layout : {&a, &b, &c, &d}) {
    if (layout->stride < static_cast<int64_t>(layout->rows)) return invalid_value;
  }
  if (product.compute == compute_fp32) {
    const bool halves = a.type == bf16 || a.type == fp16;
    if (product.scale != fp32 || !halves || (d.type != fp32 && d.type != a.type)) return not_supported;
    if (!product.has_gelu_array()) return product.epilogue() == 1 || product.epilogue() == 4 ? success : not_supported;
    const int64_t stride = product.get<int64_t>(12, 0);
    return d.type == a.type && stride % 8 == 0 && stride >= static_cast<int64_t>(d.rows) ? success : not_supported;
  }
  if (product.compute != compute_int32 || product.scale != int32 || a.type != int8 || d.type != int32)
    return not_supported;
  if (!product.transposed(3) || product.transposed(4)) die("digits whose terms are not neighbours");
  const bool fours =
      sizes.n % 4 == 0 && sizes.k % 4 == 0 && a.stride % 4 == 0 && b.stride % 4 == 0 && d.stride % 4 == 0;
  if (product.has_bias() || !fours) return not_supported;
  return success;
}

uint64_t hash_of(const Product& product, const Layout& a, const Layout& b, const Layout& c) {
  std::ostringstream all;
  for (const Layout* layout : {&a, &b, &c})
    all << layout->type << ' ' << layout->rows << ' ' << layout->columns << ' ' << layout->stride << ' ';
  all << product.compute << product.transposed(3) << product.transposed(4) << ' ' << product.epilogue();
  return std::hash<std::string>()(all.str());
}

const simt::HalfFormat& format_of(int type) { return type == bf16 ? simt::bf16_format : simt::fp16_format; }

double half_at(int type, const void* from, uint64_t i) {
  return simt::half_number(static_cast<const uint16_t*>(from)[i], format_of(type));
}

// A matrix or its transpose.
struct Matrix {
  const Layout& layout;
  const void* first;
  bool transposed;
  uint64_t at(uint64_t row, uint64_t column) const {
    return transposed ? row * static_cast<uint64_t>(layout.stride) + column
                      : column * static_cast<uint64_t>(layout.stride) + row;
  }
};

void multiply_digits(const Matrix& a, const Matrix& b, uint64_t terms, int32_t* d, const Layout& to) {
  const auto *x = static_cast<const int8_t*>(a.first), *y = static_cast<const int8_t*>(b.first);
  for (uint64_t column = 0; column < to.columns; ++column) {
    for (uint64_t row = 0; row < to.rows; ++row) {
      const int8_t *line_a = x + a.at(row, 0), *line_b = y + b.at(0, column);
      int32_t sum = 0;
      for (uint64_t term = 0; term < terms; ++term) sum += line_a[term] * line_b[term];
      d[column * static_cast<uint64_t>(to.stride) + row] = sum;
    }
  }
}

// An array of fp32 or halves.
struct Numbers {
  int type;
  void* first;
  double operator[](uint64_t i) const {
    return type == fp32 ? static_cast<double>(static_cast<const float*>(first)[i]) : half_at(type, first, i);
  }
  void put(uint64_t i, double x) const {
    if (type == fp32) {
      static_cast<float*>(first)[i] = static_cast<float>(x);
      return;
    }
    const float single = static_cast<float>(x);
    static_cast<uint16_t*>(first)[i] =
        simt::half_bits(std::isnan(single) ? NAN : simt::nearest_half(single, format_of(type)), format_of(type));
  }
};

// What follows the sums: arrays are null where nothing of them does.
struct After {
  Numbers bias, addend, before_gelu, gelu_input;
  uint64_t gelu_stride;
};

void multiply_halves(const Matrix& a, const Matrix& b, uint64_t terms, const After& after, const Numbers& d,
                     const Layout& to) {
  for (uint64_t column = 0; column < to.columns; ++column) {
    for (uint64_t row = 0; row < to.rows; ++row) {
      double sum = 0;
      for (uint64_t term = 0; term < terms; ++term) {
        sum += half_at(a.layout.type, a.first, a.at(row, term)) * half_at(b.layout.type, b.first, b.at(term, column));
      }
      const uint64_t at = column * static_cast<uint64_t>(to.stride) + row, gelu_at = column * after.gelu_stride + row;
      if (after.addend.first != nullptr) sum += after.addend[at];
      if (after.bias.first != nullptr) sum += after.bias[row];
      if (after.before_gelu.first != nullptr) {
        after.before_gelu.put(gelu_at, sum);
        sum = simt::gelu(sum);
      }
      if (after.gelu_input.first != nullptr) sum *= simt::gelu_slope(after.gelu_input[gelu_at]);
      d.put(at, sum);
    }
  }
}

size_t element_bytes(int type) { return type == int8 ? 1 : type == bf16 || type == fp16 ? 2 : 4; }

void require_array(void* stream, const Layout& layout, const void* first, uint32_t alignment, const char* what) {
  const size_t bytes = element_bytes(layout.type);
  const uint64_t elements = (layout.columns - 1) * static_cast<uint64_t>(layout.stride) + layout.rows;
  if (!peers().holds(stream, first, elements * bytes)) die(std::string(what) + " is not in the card's memory");
  const bool aligned = reinterpret_cast<uintptr_t>(first) % alignment == 0 &&
                       static_cast<uint64_t>(layout.stride) * bytes % alignment == 0;
  if (!aligned) die(std::string(what) + " is less aligned than was promised");
}

const std::map<int, size_t> product_attributes{{3, 4}, {4, 4}, {7, 4}, {8, 8}, {11, 8}, {12, 8}};
std::map<int, size_t> preference_attributes() {
  std::map<int, size_t> known{{1, 8}, {3, 4}, {5, 4}, {6, 4}, {7, 4}, {8, 4}};
  if (version / 10000 == 11) known[11] = 4;
  return known;
}

std::string name(const Product& product, const Layout& a, const Layout& d, const Sizes& sizes, bool addend) {
  std::ostringstream text;
  text << (a.type == int8 ? "int8 " : a.type == bf16 ? "bf16 " : "fp16 ");
  text << sizes.m << " x " << sizes.n << " x " << sizes.k;
  text << (product.has_bias() ? " + bias" : "") << (addend ? " + addend" : "");
  text << (product.has_gelu() ? ", GELU" : "") << (product.has_gelu_slope() ? ", GELU's slope" : "");
  text << (d.type == fp32 || d.type == int32 ? "" : d.type == bf16 ? " to bf16" : " to fp16");
  return text.str();
}

// Those of a card that hangs stay for ever: no leak of the program's.
std::mutex handles_mutex;
std::set<const Handle*>& handles = *new std::set<const Handle*>;

}  // namespace

EXPORTED fakes::FakeCublasLt& fake_cublaslt() { return seen; }

EXPORTED size_t cublasLtGetVersion() {
  const char* const given = std::getenv("FAKE_CUBLASLT_VERSION");
  version = given == nullptr || *given == 0 ? 120903 : std::stoul(given);
  const char* const fail = std::getenv("FAKE_CUBLASLT_FAIL");
  std::istringstream fields(fail == nullptr ? "" : fail);
  std::string status, after;
  fail_call.clear();
  if (std::getline(fields, fail_call, ',') && std::getline(fields, status, ',') && std::getline(fields, after)) {
    fail_status = std::stoi(status);
    fail_after = std::stoi(after);
  }
  return version;
}

EXPORTED int cublasLtCreate(void** handle) {
  if (const int failed = begin("cublasLtCreate")) return failed;
  if (peers().current_ordinal() < 0) return not_initialised;
  auto* const made = new Handle;
  made->ordinal = peers().current_ordinal();
  *handle = made;
  ++seen.handles;
  const std::lock_guard lock(handles_mutex);
  handles.insert(made);
  return success;
}

EXPORTED int cublasLtDestroy(void* handle) {
  Handle& ended = known<Handle>(handle, "handle");
  {
    const std::lock_guard lock(handles_mutex);
    handles.erase(&ended);
  }
  delete &ended;
  --seen.handles;
  return begin("cublasLtDestroy");
}

EXPORTED int cublasLtMatmulDescCreate(void** product, int compute, int scale) {
  if (const int failed = begin("cublasLtMatmulDescCreate")) return failed;
  auto* const made = make<Product>();
  made->compute = compute, made->scale = scale;
  *product = made;
  return success;
}

EXPORTED int cublasLtMatmulDescDestroy(void* product) {
  return end("cublasLtMatmulDescDestroy", &known<Product>(product, "product"));
}

EXPORTED int cublasLtMatmulDescSetAttribute(void* product, int attribute, const void* value, size_t bytes) {
  if (const int failed = begin("cublasLtMatmulDescSetAttribute")) return failed;
  return known<Product>(product, "product").set(product_attributes, attribute, value, bytes);
}

EXPORTED int cublasLtMatrixLayoutCreate(void** layout, int type, uint64_t rows, uint64_t columns, int64_t stride) {
  if (const int failed = begin("cublasLtMatrixLayoutCreate")) return failed;
  *layout = make<Layout>(type, rows, columns, stride);
  return success;
}

EXPORTED int cublasLtMatrixLayoutDestroy(void* layout) {
  return end("cublasLtMatrixLayoutDestroy", &known<Layout>(layout, "layout"));
}

EXPORTED int cublasLtMatmulPreferenceCreate(void** preference) {
  if (const int failed = begin("cublasLtMatmulPreferenceCreate")) return failed;
  *preference = make<Preference>();
  return success;
}

EXPORTED int cublasLtMatmulPreferenceDestroy(void* preference) {
  return end("cublasLtMatmulPreferenceDestroy", &known<Preference>(preference, "preference"));
}

EXPORTED int cublasLtMatmulPreferenceSetAttribute(void* preference, int attribute, const void* value, size_t bytes) {
  if (const int failed = begin("cublasLtMatmulPreferenceSetAttribute")) return failed;
  return known<Preference>(preference, "preference").set(preference_attributes(), attribute, value, bytes);
}

// An algorithm that takes half of the workspace, adds parts one after the other where it must, else as they come.
EXPORTED int cublasLtMatmulAlgoGetHeuristic(void* handle, void* product_made, void* a_made, void* b_made, void* c_made,
                                            void* d_made, void* wanted, int most, Proposal* proposals, int* count) {
  if (const int failed = begin("cublasLtMatmulAlgoGetHeuristic")) return failed;
  known<Handle>(handle, "handle");
  const auto& product = known<Product>(product_made, "product");
  const auto &a = known<Layout>(a_made, "layout"), &b = known<Layout>(b_made, "layout"),
             &c = known<Layout>(c_made, "layout"), &d = known<Layout>(d_made, "layout");
  const auto& preference = known<Preference>(wanted, "preference");
  *count = 0;
  if (most < 1) return invalid_value;
  if (const int refused = check(product, a, b, c, d)) return refused;
  if (product.has_gelu_array() && seen.without_gelu) return not_supported;
  if (version / 10000 == 11 && preference.get<uint32_t>(11, 1) != product.epilogue()) return not_supported;
  ++seen.algorithms;
  uint32_t alignment = 256;
  for (int matrix = 5; matrix <= 8; ++matrix) alignment = std::min(alignment, preference.get<uint32_t>(matrix, 256));
  const bool in_place = (preference.get<uint32_t>(3, 7) & 1) != 0;
  const size_t workspace = preference.get<uint64_t>(1, 0) / 2;
  *proposals = {};
  proposals->algorithm.made = {hash_of(product, a, b, c), workspace, alignment, in_place ? 1u : 2u};
  proposals->workspace_bytes = workspace;
  *count = 1;
  return success;
}

EXPORTED int cublasLtMatmulAlgoConfigGetAttribute(const Algorithm* algorithm, int attribute, void* value, size_t bytes,
                                                  size_t* written) {
  if (const int failed = begin("cublasLtMatmulAlgoConfigGetAttribute")) return failed;
  if (attribute != 3 || bytes != sizeof(uint32_t)) return invalid_value;
  std::memcpy(value, &algorithm->made.reduction, bytes);
  *written = bytes;
  return success;
}

EXPORTED int cublasLtMatmul(void* handle, void* product_made, const void* alpha, const void* a, void* a_made,
                            const void* b, void* b_made, const void* beta, const void* c, void* c_made, void* d,
                            void* d_made, const Algorithm* algorithm, void* workspace, size_t workspace_bytes,
                            void* stream) {
  if (const int failed = begin("cublasLtMatmul")) return failed;
  const auto& product = known<Product>(product_made, "product");
  const auto &la = known<Layout>(a_made, "layout"), &lb = known<Layout>(b_made, "layout"),
             &lc = known<Layout>(c_made, "layout"), &ld = known<Layout>(d_made, "layout");
  if (const int refused = check(product, la, lb, lc, ld)) return refused;
  if (peers().ordinal(stream) != known<Handle>(handle, "handle").ordinal) die("a stream of another card");
  const Made& made = algorithm->made;
  if (made.sizes != hash_of(product, la, lb, lc)) die("an algorithm of other sizes");
  if (workspace_bytes < made.workspace_bytes) return invalid_value;
  if (workspace_bytes > 0 && !peers().holds(stream, workspace, workspace_bytes)) die("a workspace that is not there");
  if (reinterpret_cast<uintptr_t>(workspace) % 256 != 0) die("a workspace that is not aligned to 256 bytes");
  require_array(stream, la, a, made.alignment, "a");
  require_array(stream, lb, b, made.alignment, "b");
  require_array(stream, lc, c, made.alignment, "c");
  require_array(stream, ld, d, made.alignment, "d");
  const Sizes sizes = sizes_of(product, la, lb, lc, ld);
  const void* const bias = product.has_bias() ? product.get<const void*>(8, nullptr) : nullptr;
  if (product.has_bias() && !peers().holds(stream, bias, sizes.n * element_bytes(ld.type)))
    die("a bias that is not there");
  if (reinterpret_cast<uintptr_t>(bias) % made.alignment != 0) die("a bias that is less aligned than was promised");
  void* const gelu = product.has_gelu_array() ? product.get<void*>(11, nullptr) : nullptr;
  const Layout gelu_layout(ld.type, ld.rows, ld.columns, product.get<int64_t>(12, 0));
  if (product.has_gelu_array()) require_array(stream, gelu_layout, gelu, 16, "GELU's array");
  const Matrix x{la, a, product.transposed(3)}, y{lb, b, product.transposed(4)};
  const float addend = la.type == int8 ? 0 : *static_cast<const float*>(beta);
  if (la.type == int8 && (*static_cast<const int32_t*>(alpha) != 1 || *static_cast<const int32_t*>(beta) != 0))
    die("factors of digits");
  if (la.type != int8 && *static_cast<const float*>(alpha) != 1) die("a factor of halves");
  peers().launch(stream, "cublasLtMatmul", [=] {
    if (workspace_bytes > 0) std::memset(workspace, 0xff, 4096);  // whatever it held
    if (seen.instead) return seen.instead();
    if (la.type == int8) return multiply_digits(x, y, sizes.k, static_cast<int32_t*>(d), ld);
    const bool slope = product.has_gelu_slope();
    const After after{.bias = {ld.type, const_cast<void*>(bias)},
                      .addend = {ld.type, addend == 0 ? nullptr : const_cast<void*>(c)},
                      .before_gelu = {ld.type, slope ? nullptr : gelu},
                      .gelu_input = {ld.type, slope ? gelu : nullptr},
                      .gelu_stride = static_cast<uint64_t>(gelu_layout.stride)};
    multiply_halves(x, y, sizes.k, after, {ld.type, d}, ld);
  });
  seen.products.push_back(name(product, la, ld, sizes, addend != 0));
  return success;
}
