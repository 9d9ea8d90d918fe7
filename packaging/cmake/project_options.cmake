# The language and the warnings of every target of ours, which links project_options.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)

option(GRADMINER_WERROR "Warnings are errors" ON)

# -ffp-contract=off: an fma is where the source says fma (docs/numerics.md).
add_library(project_options INTERFACE)
target_compile_options(project_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor
                       -ffp-contract=off $<$<BOOL:${GRADMINER_WERROR}>:-Werror>)
if(CMAKE_UNITY_BUILD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")  # it takes a .cpp that another file includes for a header
  target_compile_options(project_options INTERFACE -Wno-subobject-linkage)
endif()
