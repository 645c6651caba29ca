// Private to this room. The system calls that change what is on the disk. Interrupted by a signal they go on.
// Each is a step that a test can let fail: see fail_file_step_after in atomic_file.h.
#pragma once

#include <string_view>

namespace sieve::file_steps {

// Each returns false (open: -1) with errno set.
int open(const char* path, int flags);       // a new file may be read and written by all, but for the umask
bool write(int fd, std::string_view bytes);  // all of them, in as many calls as it takes
bool fsync(int fd);
bool close(int fd);
bool rename(const char* from, const char* to);
bool mkdir(const char* path);

}  // namespace sieve::file_steps
