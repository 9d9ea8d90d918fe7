# Whether the program carries CUDA code: AUTO (where NVIDIA's compiler library can be had), ON (or fail), OFF. Neither the
# machine that builds it nor the one that runs it needs a CUDA toolkit, and building needs no card.
set(GRADMINER_CUDA AUTO CACHE STRING "Compile the CUDA kernels: AUTO, ON or OFF")
set_property(CACHE GRADMINER_CUDA PROPERTY STRINGS AUTO ON OFF)
set(CUDA_TOOLS ${PROJECT_SOURCE_DIR}/packaging/cuda)
set(CUDA_FOLDER ${CMAKE_BINARY_DIR}/cuda)
set(CUDA_COMPILED OFF)

if(NOT GRADMINER_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "GRADMINER_CUDA is AUTO, ON or OFF, not ${GRADMINER_CUDA}")
endif()
if(NOT GRADMINER_CUDA STREQUAL OFF)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CUDA_TOOLS}/requirements.txt)
  execute_process(COMMAND /usr/bin/python3 ${CUDA_TOOLS}/fetch.py ${CUDA_FOLDER}/nvrtc
                  RESULT_VARIABLE failed OUTPUT_VARIABLE words ERROR_VARIABLE words)
  string(STRIP "${words}" words)
  if(failed STREQUAL 0)
    set(CUDA_COMPILED ON)
  elseif(GRADMINER_CUDA STREQUAL ON)
    message(FATAL_ERROR "GRADMINER_CUDA=ON, but NVIDIA's compiler library cannot be had:\n${words}")
  else()
    message(STATUS "Building without CUDA code: NVIDIA's compiler library cannot be had (GRADMINER_CUDA=ON makes this "
                   "an error, OFF leaves it out):\n${words}")
  endif()
endif()

# The library of either version, and what is compiled with it.
set(CUDA_LIBRARY_11 ${CUDA_FOLDER}/nvrtc/libnvrtc.so.11.2)
set(CUDA_LIBRARY_12 ${CUDA_FOLDER}/nvrtc/libnvrtc.so.12)
set(CUDA_ARCHITECTURES_11 sm_60 sm_61 sm_70 sm_75 sm_80 sm_86 compute_75)
set(CUDA_ARCHITECTURES_12 sm_89 sm_90a sm_100 sm_120)

# Compiles every .cu of a folder below kernels/ and makes the target carry it (kernels/cuda_driver/code.h). In the build tree,
# cuda/kernels.txt tells the registers, shared memory and spills of every kernel for every architecture.
function(carry_cuda_code target folder)
  file(GLOB sources CONFIGURE_DEPENDS ${folder}/*.cu)
  foreach(source ${sources})
    get_filename_component(stem ${source} NAME_WE)
    list(APPEND stems ${stem})
    foreach(version 11 12)
      list(TRANSFORM CUDA_ARCHITECTURES_${version} REPLACE "(.+)" "${CUDA_FOLDER}/${stem}.\\1.log" OUTPUT_VARIABLE made)
      list(GET made 0 first)
      string(REGEX REPLACE "log$" "d" includes ${first})
      list(APPEND logs ${made})
      add_custom_command(
        OUTPUT ${made}
        COMMAND /usr/bin/python3 ${CUDA_TOOLS}/compile.py ${CUDA_LIBRARY_${version}} ${source} ${PROJECT_SOURCE_DIR}/kernels
                ${CUDA_FOLDER} ${CUDA_ARCHITECTURES_${version}}
        DEPENDS ${source} ${CUDA_TOOLS}/compile.py ${CUDA_TOOLS}/requirements.txt
        DEPFILE ${includes}
        COMMENT "Compiling ${stem}.cu (NVRTC ${version})" VERBATIM)
    endforeach()
  endforeach()
  set(embedded ${CUDA_FOLDER}/code.S ${CUDA_FOLDER}/code_table.cpp)
  add_custom_command(
    OUTPUT ${embedded} ${CUDA_FOLDER}/kernels.txt
    COMMAND /usr/bin/python3 ${CUDA_TOOLS}/embed.py ${CUDA_FOLDER} --sources ${stems}
            --architectures ${CUDA_ARCHITECTURES_11} ${CUDA_ARCHITECTURES_12}
    DEPENDS ${logs} ${CUDA_TOOLS}/embed.py
    COMMENT "Tabling the CUDA code (cuda/kernels.txt)" VERBATIM)
  set_source_files_properties(${CUDA_FOLDER}/code.S PROPERTIES OBJECT_DEPENDS "${logs}")
  target_sources(${target} PRIVATE ${embedded})
endfunction()

# A target that compiles sources for one architecture to PTX in a folder, by the library of version 11 or 12.
function(add_cuda_ptx target version architecture folder)
  foreach(source ${ARGN})
    get_filename_component(stem ${source} NAME_WE)
    set(log ${folder}/${stem}.${architecture}.log)
    list(APPEND logs ${log})
    add_custom_command(
      OUTPUT ${log}
      COMMAND ${CMAKE_COMMAND} -E make_directory ${folder}
      COMMAND /usr/bin/python3 ${CUDA_TOOLS}/compile.py ${CUDA_LIBRARY_${version}} ${source} ${PROJECT_SOURCE_DIR}/kernels ${folder}
              ${architecture}
      DEPENDS ${source} ${CUDA_TOOLS}/compile.py ${CUDA_TOOLS}/requirements.txt
      DEPFILE ${folder}/${stem}.${architecture}.d
      COMMENT "Compiling ${stem}.cu (${architecture})" VERBATIM)
  endforeach()
  add_custom_target(${target} DEPENDS ${logs})
endfunction()
