// What both programs do first.
#pragma once

namespace protocol {

// A program may be started with standard input, output or error closed; the next file or socket would get that number,
// and the log's lines. So /dev/null is opened there, the wrong way round: reading or writing it fails as before.
// Throws std::system_error where it cannot be opened. For main(), before anything opens a file or starts a thread.
void open_closed_standard_files();

}  // namespace protocol
