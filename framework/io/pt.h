// PyTorch checkpoints (.pt): what torch.save writes and torch.load reads.
//
// A stored zip with the members
//   archive/data.pkl     the state dict: an OrderedDict of tensors, pickled; each tensor names its storage
//   archive/data/<N>     the bytes of storage N, at a multiple of 64
//   archive/version      "3\n"
//   archive/byteorder    "little"
//   archive/sieve/<key>  our extra members (config, optimiser, RNG, progress); torch.load ignores them
//
// Reading executes nothing: see pickle.h. CRCs and lengths are checked, which torch.load does not do. The CRC
// of a member is the checksum of its tensor; in a file of ours any flipped bit is found, also one between the
// members (zip.h). Beside the file itself reading takes at most its size and 48 MB, but for 16-bit floats,
// which become 32-bit ones.
#pragma once

#include <map>
#include <string>

#include "framework/core/named_tensor.h"

namespace sieve {

struct PtFile {
    NamedTensors tensors;
    std::map<std::string, std::string> extra;  // by key
};

// Names whose tensors are the same elements (same address, shape and dtype: tied weights) share one storage.
// Writes atomically. uint8 is written as torch.uint8.
void write_pt(const std::string& path, const NamedTensors& tensors,
              const std::map<std::string, std::string>& extra_members = {});

// The state dict: the dict under the first of the keys "model_state_dict", "state_dict", "model" that the
// root has, else the root itself; every value in it must be a tensor, else Error(bad_file) names the entry.
// Read are float32/64, int32/64, uint8, and with conversion float16 and bfloat16 (to float32) and bool (to
// uint8); strided views are made contiguous. Names that share one storage in the same way share one Tensor.
PtFile read_pt(const std::string& path);

}  // namespace sieve
