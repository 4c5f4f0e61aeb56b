# cmake -DPROGRAM=... -DFOLDER=... -P: has ollama-leakview (PROGRAM) write its manual pages and completions to FOLDER.
function(write file)
  execute_process(COMMAND "${PROGRAM}" ${ARGN} OUTPUT_FILE "${FOLDER}/${file}" COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE "${FOLDER}")
file(MAKE_DIRECTORY "${FOLDER}/man1")
write(man1/ollama-leakview.1 manual)
# The verbs: those that the page of the program names.
file(STRINGS "${FOLDER}/man1/ollama-leakview.1" lines REGEX "^\\.BR ")
foreach(line IN LISTS lines)
  string(REGEX REPLACE "^\\.BR ollama.*leakview[^a-z]*([a-z]+) .*$" "\\1" verb "${line}")
  write(man1/ollama-leakview-${verb}.1 manual ${verb})
endforeach()
foreach(shell bash zsh fish)
  write(ollama-leakview.${shell} completion ${shell})
endforeach()
file(TOUCH "${FOLDER}/stamp")
