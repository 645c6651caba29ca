#include "framework/io/folder_lock.h"

#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "framework/core/error.h"
#include "framework/io/atomic_file.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/testing.h"

using namespace sieve;
using namespace sieve::testing;
namespace fs = std::filesystem;

namespace {

// Whether another process gets the lock: 0 yes, 1 no.
int other_process(const fs::path& folder, bool die_with_it) {
    const pid_t child = ::fork();
    if (child == 0) {
        try {
            const FolderLock lock(folder);
            if (die_with_it) ::_exit(0);  // no destructor runs, as after a kill
        } catch (const Error&) {
            ::_exit(1);
        }
        ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

}  // namespace

TEST_CASE("folder lock: one process at a time, and nothing is left behind") {
    const TemporaryFolder folder;
    {
        const FolderLock lock(folder.path());
        CHECK(other_process(folder.path(), false) == 1);
        try {
            const FolderLock second(folder.path());
            FAIL("nothing was thrown");
        } catch (const Error& e) {
            const std::string message = e.what();
            CHECK(e.kind() == ErrorKind::failure);
            CHECK(message.find(folder.path().string() + ": in use by process " +
                               std::to_string(::getpid())) == 0);
        }
    }
    CHECK(names_in(folder.path()).empty());
    CHECK(other_process(folder.path(), false) == 0);
}

TEST_CASE("folder lock: the file that a killed process left locks nothing") {
    const TemporaryFolder folder;
    CHECK(other_process(folder.path(), true) == 0);
    CHECK(names_in(folder.path()) == std::vector<std::string>{".lock"});
    const FolderLock lock(folder.path());
}
